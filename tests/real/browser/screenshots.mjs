// Takes the README's pictures of the status page, from `cargo run --example staged_status_page`.
//
//   node screenshots.mjs http://127.0.0.1:9181 DIRECTORY
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, directory] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars"],
});
const pictures = [
  ["light", "light", { width: 1200, height: 800 }, 1],
  ["dark", "dark", { width: 1200, height: 800 }, 1],
  // As far down as a thumb goes.
  ["phone", "light", { width: 390, height: 1500 }, 1.5],
  ["narrow", "dark", { width: 360, height: 740 }, 1],
];
let wide = false;
try {
  for (const [name, colorScheme, viewport, deviceScaleFactor] of pictures) {
    const page = await browser.newPage({ colorScheme, viewport, deviceScaleFactor, locale: "en-GB", timezoneId: "Europe/Berlin" });
    page.on("console", (message) => console.error(`${name}: ${message.type()}: ${message.text()}`));
    await page.goto(url);
    await page.waitForSelector(".live.fresh");
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > viewport.width) {
      console.error(`${name}: the page is ${width} wide, the screen ${viewport.width}`);
      wide = true;
    }
    await page.screenshot({ path: join(directory, `status-page-${name}.png`), fullPage: name !== "phone" });
    await page.close();
  }
} finally {
  await browser.close();
}
process.exit(wide ? 1 : 0);
