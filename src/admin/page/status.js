// Brings the parts of the status page that change up to date, every five seconds while somebody looks. Without it the
// page is the same, as of the moment when it was asked for.
"use strict";

const EVERY = 5000;
const live = document.getElementById("live");
let seen = new Date();

// Times come in UTC; the reader's own are nearer.
function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today ? at.toLocaleTimeString() : at.toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  }
}

// What somebody is about to press, or has marked with the mouse, stays as it is.
function isBusy(part) {
  const marked = document.getSelection();
  return part.contains(document.activeElement) || (marked && !marked.isCollapsed && marked.containsNode(part, true));
}

function say(text, state) {
  live.className = "live " + state;
  if (live.textContent !== text) live.textContent = text;
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/", { cache: "no-store", credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    localise(fresh);
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const old = document.getElementById(part.id);
      if (!old || isBusy(old) || old.outerHTML === part.outerHTML) continue;
      const scrolled = old.querySelector(".scroll")?.scrollTop ?? 0;
      old.replaceWith(document.importNode(part, true));
      if (scrolled) document.querySelector("#" + part.id + " .scroll").scrollTop = scrolled;
    }
    document.title = fresh.title;
    seen = new Date();
    say("live", "fresh");
  } catch {
    say("not refreshed since " + seen.toLocaleTimeString(), "stale");
  }
}

localise(document);
say("live", "fresh");
setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);
