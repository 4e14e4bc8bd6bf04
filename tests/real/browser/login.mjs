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
  await page.screenshot({ path: join(screenshots, "login-refused.png") });

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
  await page.screenshot({ path: join(screenshots, "dashboard.png") });
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error("seen until then:", seen, "unanswered:", unanswered);
  throw error;
} finally {
  await browser.close();
}
