// Ages beside times, and pages that change by themselves while their sweep runs.
"use strict";
(() => {
  const EVERY_MS = 3000;

  function ages() {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const seconds = (Date.now() - at) / 1000;
      if (Number.isNaN(seconds)) continue;
      const [amount, unit] = seconds < 60 ? [0, ""] : seconds < 3600 ? [seconds / 60, "min"] : seconds < 86400 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
      time.title = at.toLocaleString();
      time.textContent = unit ? `${Math.floor(amount)} ${unit} ago` : "just now";
    }
  }

  const parts = (page) => [...page.querySelectorAll("[data-part]")];
  const charts = (part) => [...part.querySelectorAll("figure.chart")].map((figure) => figure.dataset.src).join(" ");
  // What each part was when it was sent: scripts change the page, so the page itself cannot be compared.
  const sent = new Map(parts(document).map((part) => [part.id, part.innerHTML]));

  // Puts in the parts that were sent again and differ; what the reader is in is left alone.
  function renew(fresh) {
    parts(fresh).forEach((part, place, all) => {
      const old = document.getElementById(part.id), html = part.innerHTML;
      if (!old) {
        const before = document.getElementById(all[place - 1]?.id);
        before ? before.after(part) : document.getElementById("main").prepend(part);
      } else if (part.dataset.part === "keep" ? charts(part) === charts(old) : sent.get(part.id) === html) {
        return;
      } else if (old.contains(document.activeElement)) {
        return;
      } else {
        old.replaceWith(part);
      }
      sent.set(part.id, html);
    });
    const main = document.getElementById("main");
    if (!("live" in (fresh.getElementById("main")?.dataset ?? {}))) delete main.dataset.live;
    document.title = fresh.title || document.title;
    ages();
  }

  function say(text) {
    const status = document.getElementById("live-status");
    if (status && status.textContent !== text) status.textContent = text;
  }

  let etag = null;
  async function look() {
    if (!("live" in (document.getElementById("main")?.dataset ?? {}))) return say("");
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
        say(answer.ok || answer.status === 304 ? "Live" : "Not reachable");
        if (answer.status === 200) {
          etag = answer.headers.get("ETag");
          renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
        }
        await window.loadCharts?.();
      } catch {
        say("Not reachable");
      }
    }
    setTimeout(look, EVERY_MS);
  }

  document.addEventListener("visibilitychange", () => document.hidden || ages());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    navigator.clipboard?.writeText(document.getElementById(button.dataset.copy)?.textContent ?? "");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  setInterval(ages, 30000);
  ages();
  setTimeout(look, EVERY_MS);
})();
