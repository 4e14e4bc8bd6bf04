import { chromium } from "playwright-core";
const [url, spki, n] = process.argv.slice(2);
for (let i = 0; i < +n; i++) {
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--headless","--no-sandbox","--disable-gpu","--disable-quic","--no-first-run","--disable-dev-shm-usage","--disable-background-networking","--disable-component-update","--disable-sync","--host-resolver-rules=MAP ha.example.test 127.0.0.1",`--ignore-certificate-errors-spki-list=${spki}`]});
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
const un = new Map(); const log=[];
page.on("request", r => {un.set(r, r.url()); log.push(`${Date.now()} > ${r.url().slice(0,110)}`)}); page.on("requestfinished", r => {un.delete(r);log.push(`${Date.now()} < ${r.url().slice(0,110)}`)}); page.on("requestfailed", r => {un.delete(r);log.push(`${Date.now()} x ${r.url().slice(0,110)} ${r.failure()?.errorText}`)});
page.on("console", m => log.push("console "+m.text())); page.on("pageerror", e => log.push("pageerror "+e)); page.on("crash", ()=>log.push("CRASH"));
try { await page.goto(url); await page.waitForSelector("input[name=username]", { timeout: 15000 }); process.stdout.write("."); }
catch (e) { console.log("\nFAIL", i, new Date().toISOString(), e.message.split("\n")[0], "unanswered", [...un.values()]); console.log(log.slice(-45).join("\n"));
  try { console.log("html", await Promise.race([page.evaluate(()=>document.readyState+" "+document.documentElement.outerHTML.length+" "+document.body?.innerText), new Promise(d=>setTimeout(d,5000,"evaluate hangs"))])); } catch(e) {console.log("eval",e.message)} }
await Promise.race([browser.close(), new Promise(d=>setTimeout(d,5000))]);
}
console.log("done");
