// The page's own script: STOP, which goes straight to its route, and news, asked for with short requests, so that no
// connection is held open: a browser has few, and STOP needs one.
(() => {
  const SOON_MS = 150, HIDDEN_MS = 2000, LATE_MS = 4000, STOP_LATE_MS = 700;
  let seen = "", asking = false, heard = Date.now();

  const say = (text, bad) => {
    const line = document.getElementById("alarm");
    if (line) { line.textContent = text; line.className = text ? (bad ? "bad" : "good") : ""; }
  };

  async function stop() {
    const button = document.getElementById("stop");
    button.classList.add("pressed");
    const late = setTimeout(
      () => say("STOP was sent, but the robot's program has not answered yet: use the emergency stop.", true),
      STOP_LATE_MS,
    );
    try {
      const answer = await fetch("stop", { method: "POST", keepalive: true, cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      say("", false);
      button.classList.add("done");
    } catch (error) {
      say("STOP did not reach the robot (" + error.message + "): use the emergency stop.", true);
    }
    clearTimeout(late);
    setTimeout(() => button.classList.remove("pressed", "done"), 900);
  }
  // on the press, not on the release; a click without one comes from the keyboard
  document.addEventListener("pointerdown", (e) => { if (e.target.closest && e.target.closest("#stop")) stop(); }, true);
  document.addEventListener("click", (e) => { if (e.detail === 0 && e.target.closest && e.target.closest("#stop")) stop(); }, true);

  async function news() {
    const refresh = document.getElementById("refresh");
    if (asking || !refresh) return;
    asking = true;
    try {
      const answer = await fetch("now", { cache: "no-store", signal: AbortSignal.timeout(LATE_MS) });
      if (!answer.ok) throw new Error(answer.status);
      const found = await answer.json(), now = JSON.stringify(found);
      window.affordagentStops = found.stops;  // what is said carries it: STOP may overtake words, never the reverse
      heard = Date.now();
      const dot = document.querySelector("#status .dot"), words = document.querySelector("#status .status b");
      if (dot && words) { dot.className = "dot " + found.state; words.textContent = found.words; }
      const alarm = document.getElementById("alarm");
      if (alarm && alarm.className === "lost") say("", false);
      if (now !== seen) { seen = now; refresh.click(); }
    } catch (error) {
      if (Date.now() - heard > LATE_MS) {
        say("No answer from the robot's program: what is shown may be old.", true);
        document.getElementById("alarm").className = "lost";
        seen = "";
      }
    } finally { asking = false; }
  }
  // the talk shows its end, unless somebody has scrolled up to read
  let atEnd = true;
  document.addEventListener("scroll", (e) => {
    if (e.target.id === "chat") atEnd = e.target.scrollHeight - e.target.scrollTop - e.target.clientHeight < 60;
  }, true);
  new MutationObserver(() => {
    const chat = document.getElementById("chat");
    if (chat && atEnd) chat.scrollTop = chat.scrollHeight;
  }).observe(document, { subtree: true, childList: true, characterData: true });

  const ask = () => { news(); setTimeout(ask, document.hidden ? HIDDEN_MS : SOON_MS); };
  document.addEventListener("visibilitychange", news);
  ask();
})();
