// Looks at the status page with Debian's Chromium as an operator does, and as a page from elsewhere that means ill; prints
// one JSON object.
//
//   node status-page.mjs ADMIN_URL BANNED_NETWORK OTHER_BANNED_NETWORK SCREENSHOT_DIRECTORY
import { createServer } from "node:http";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, network, other, screenshots] = process.argv.slice(2);
const { port } = new URL(url);
const wait = 30_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
  ],
});
const seen = { console: [], failed: [], refreshes: 0 };
const row = (page, of) => page.locator("#ban-list tr", { hasText: of });

// What a page elsewhere can do: send the form with what it knows, here even with the word that it cannot know.
const evil = createServer((request, response) => {
  const token = new URL(request.url, "http://evil.test").searchParams.get("token");
  response.setHeader("content-type", "text/html");
  response.end(`<form method="post" action="${url}/bans/remove"><input name="network" value="${network}">
    <input name="token" value="${token}"></form><script>document.forms[0].submit()</script>`);
});
await new Promise((done) => evil.listen(0, "127.0.0.1", done));

try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`error: ${error}`));
  page.on("requestfailed", (request) => seen.failed.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    if (response.status() >= 400) seen.failed.push(`${response.url()}: ${response.status()}`);
    if (response.request().resourceType() === "fetch") seen.refreshes += 1;
  });
  await page.goto(url, { timeout: wait });
  await page.waitForSelector(".live.fresh", { timeout: wait });
  seen.title = await page.title();
  seen.headings = await page.locator("h2").allInnerTexts();
  const token = await row(page, network).locator("input[name=token]").inputValue();
  await page.waitForResponse((response) => response.request().resourceType() === "fetch", { timeout: wait });
  await page.screenshot({ path: join(screenshots, "status-page.png"), fullPage: true });

  const elsewhere = await browser.newPage();
  seen.elsewhere = [];
  for (const known of ["guessed", token]) {
    const answer = elsewhere.waitForResponse((response) => response.url().endsWith("/bans/remove"), { timeout: wait });
    await elsewhere.goto(`http://evil.test:${evil.address().port}/?token=${known}`, { timeout: wait });
    seen.elsewhere.push((await answer).status());
  }
  seen.rebound = (await elsewhere.goto(`http://rebound.test:${port}/`, { timeout: wait })).status();

  await page.reload({ timeout: wait });
  seen.bannedBefore = await row(page, network).count();
  const gone = page.waitForResponse((response) => response.url().endsWith("/bans/remove"), { timeout: wait });
  await row(page, network).getByRole("button").click();
  seen.unbanned = (await gone).status();
  await row(page, network).waitFor({ state: "detached", timeout: wait });
  seen.bannedAfter = await row(page, network).count();

  // The same without JavaScript, as wide as a small telephone.
  const plain = await browser.newPage({ javaScriptEnabled: false, viewport: { width: 360, height: 740 } });
  await plain.goto(url, { timeout: wait });
  seen.plainCharts = await plain.locator("svg[role=img]").count();
  await row(plain, other).getByRole("button").click();
  await row(plain, other).waitFor({ state: "detached", timeout: wait });
  seen.plainBans = await plain.locator("#ban-list").innerText();
  seen.width = await page.setViewportSize({ width: 360, height: 740 }).then(() => page.evaluate(() => document.documentElement.scrollWidth));
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error("seen until then:", seen);
  throw error;
} finally {
  evil.close();
  await browser.close();
}
