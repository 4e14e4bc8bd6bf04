// Logs in to Home Assistant through the gate as a person would, with Debian's Chromium, and prints one JSON object:
// the message a wrong password got, the protocols spoken, and every request that failed.
//
//   node login.mjs URL USER PASSWORD CERTIFICATE_SPKI SCREENSHOT_DIRECTORY
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, user, password, spki, screenshots] = process.argv.slice(2);
const { hostname } = new URL(url);
const wait = 60_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    `--host-resolver-rules=MAP ${hostname} 127.0.0.1`,
    // Trusts the one certificate of the test, so that service workers run as they do at home.
    `--ignore-certificate-errors-spki-list=${spki}`,
  ],
});
const seen = { requests: 0, protocols: {}, failed: [], websockets: 0, frames: 0 };
const unanswered = new Set();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.on("request", (request) => unanswered.add(request.url()));
  page.on("requestfinished", (request) => unanswered.delete(request.url()));
  const leaving = (failure) => failure?.errorText === "net::ERR_ABORTED"; // the page went on before the answer came
  page.on("requestfailed", (request) => {
    unanswered.delete(request.url());
    if (!leaving(request.failure())) seen.failed.push(`${request.method()} ${request.url()}: ${request.failure()?.errorText}`);
  });
  page.on("response", (response) => {
    seen.requests += 1;
    if (response.status() >= 400) seen.failed.push(`${response.request().method()} ${response.url()}: ${response.status()}`);
  });
  page.on("websocket", (websocket) => {
    seen.websockets += 1;
    websocket.on("framereceived", () => (seen.frames += 1));
    websocket.on("socketerror", (error) => seen.failed.push(`WebSocket: ${error}`));
  });
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  network.on("Network.responseReceived", ({ response }) => {
    seen.protocols[response.protocol] = (seen.protocols[response.protocol] ?? 0) + 1;
  });

  // Pictures are for the reader, and fail nothing. Headless Chromium at times draws a still page no more, so the page is
  // kept moving; and Home Assistant loads itself anew when its service worker is ready, hence the second try.
  const picture = async (name) => {
    for (let left = 3; left > 0; left -= 1) {
      try {
        await page.evaluate(() => setInterval(() => (document.body.style.opacity = 0.999 + 0.001 * (Date.now() % 2)), 30));
        return await page.screenshot({ path: join(screenshots, name), timeout: 10_000 });
      } catch (error) {
        console.error(`${name}: ${error.message.split("\n")[0]}`);
      }
    }
  };

  await page.goto(url, { timeout: wait });
  const submit = async (secret) => {
    await page.waitForSelector("input[name=username]", { timeout: wait });
    await page.fill("input[name=username]", user);
    await page.fill("input[name=password]", secret);
    await page.keyboard.press("Enter");
  };
  await submit("not " + password);
  const alert = await page.waitForSelector("ha-alert", { timeout: wait });
  seen.refusal = (await alert.innerText()).trim();
  await picture("login-refused.png");

  await submit(password);
  await page.waitForSelector("home-assistant-main", { state: "attached", timeout: wait });
  // The dashboard is seen when the launch screen has left and one of its cards is drawn.
  await page.waitForSelector("#ha-launch-screen", { state: "detached", timeout: wait });
  await page.waitForSelector("hui-card", { timeout: wait });
  await page.waitForLoadState("networkidle", { timeout: wait });
  seen.landed = new URL(page.url()).pathname;
  seen.serviceWorker = await page.evaluate(
    () => Promise.race([navigator.serviceWorker.ready.then(() => true), new Promise((done) => setTimeout(done, 20_000, false))]),
  );
  await picture("dashboard.png");
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error("seen until then:", seen, "unanswered:", unanswered);
  throw error;
} finally {
  await browser.close();
}
