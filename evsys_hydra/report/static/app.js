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

  // A part whose field the reader types in waits until they leave it.
  const typing = () => document.activeElement?.matches("input, select, textarea") ? document.activeElement : null;
  let waiting = null;

  // The reader stays where they are: the same link or table has the focus, tables stay scrolled.
  function replace(old, part) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const scrolled = [...old.querySelectorAll(".scroll")].map((table) => table.scrollLeft);
    old.replaceWith(part);
    part.querySelectorAll(".scroll").forEach((table, place) => (table.scrollLeft = scrolled[place] ?? 0));
    const name = ["href", "aria-label"].find((key) => focused?.hasAttribute(key));
    if (name) part.querySelector(`[${name}="${CSS.escape(focused.getAttribute(name))}"]`)?.focus({ preventScroll: true });
  }

  // Puts in the parts that were sent again and differ.
  function renew(fresh) {
    waiting = null;
    parts(fresh).forEach((part, place, all) => {
      const old = document.getElementById(part.id), html = part.innerHTML;
      if (!old) {
        const before = document.getElementById(all[place - 1]?.id);
        before ? before.after(part) : document.getElementById("main").prepend(part);
      } else if (part.dataset.part === "keep" ? charts(part) === charts(old) : sent.get(part.id) === html) {
        return;
      } else if (old.contains(typing())) {
        waiting = fresh;
        return;
      } else {
        replace(old, part);
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
        if (answer.redirected) return say("Logged out: load the page again");
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

  document.addEventListener("focusout", () => setTimeout(() => waiting && renew(waiting)));
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
