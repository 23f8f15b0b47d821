"use strict";
// What makes the pages live. Without it they can be read, and every form works.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ------------------------------------------------------------------------------------------------------ times
  const ago = (delta) => {
    const size = Math.abs(delta);
    if (size < 2000) return "now";
    const [unit, words] = size >= 172800000 ? [86400000, "d"] : size >= 7200000 ? [3600000, "h"] : size >= 60000 ? [60000, "min"] : [1000, "s"];
    const text = `${Math.floor(size / unit)} ${words}`;
    return delta > 0 ? `${text} ago` : `in ${text}`;
  };
  // The server's clock counts: a browser's may be wrong. The age that a page came with says how far it is off.
  const told = (element) => {
    const at = Date.parse(element.dateTime);
    if (!element.dataset.exact) {
      element.dataset.exact = element.title;
      element.title = `${new Date(at).toLocaleString([], {dateStyle: "medium", timeStyle: "medium"})} here · ${element.title}`;
    }
    const text = ago(Date.now() - at);
    if (element.textContent !== text) element.textContent = text;
  };
  const tellTimes = (root = document) => all("time[datetime]", root).forEach(told);
  tellTimes();
  setInterval(tellTimes, 10000);

  // ------------------------------------------------------------------------------------------------ live pages
  // One connection, which is given back while nobody looks: browsers open only six to one server.
  let source = null, fresh = 0;
  const connection = $("#connection");
  const refresh = () => {
    const live = $("#live[data-live]");
    if (!live || document.hidden) return;
    const selection = getSelection();
    if (selection && !selection.isCollapsed && live.contains(selection.anchorNode)) return;
    window.htmx.trigger(live, "changed");
  };
  const connect = () => {
    const live = $("#live[data-live]");
    if (!live || source || document.hidden) return;
    source = new EventSource(live.dataset.live);
    source.addEventListener("begin", () => { connection.hidden = true; if (fresh++) refresh(); });
    source.addEventListener("changed", refresh);
    source.addEventListener("error", () => {
      connection.hidden = false;
      // One that the server refused does not try again by itself.
      if (source && source.readyState === EventSource.CLOSED) { disconnect(); setTimeout(connect, 5000); }
    });
  };
  const disconnect = () => { if (source) source.close(); source = null; };
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  connect();

  // A swap between the press of a button and its release would take the click away: it waits for the release.
  let held = false, waits = false;
  const release = () => {
    held = false;
    if (waits) refresh();
    waits = false;
  };
  document.addEventListener("pointerdown", (event) => { held = event.button === 0; }, true);
  // The click comes right after the release, and before this. A menu of the system's takes the release away.
  for (const end of ["pointerup", "pointercancel", "contextmenu"]) {
    document.addEventListener(end, () => setTimeout(release), true);
  }
  document.addEventListener("pointermove", (event) => { if (held && !event.buttons) release(); }, true);
  addEventListener("blur", release);

  // What a swap must not take away: the place of the focus, and what was opened.
  let focused = "", open = [], picked = null;
  const place = (element) => {
    if (!element || element === document.body) return "";
    if (element.id) return `#${CSS.escape(element.id)}`;
    const tag = element.localName;
    if (tag === "a") return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
    if (tag === "summary") return element.parentElement.id ? `#${CSS.escape(element.parentElement.id)} > summary` : "";
    if (tag === "button" && element.form) return `form[action="${CSS.escape(element.form.getAttribute("action"))}"] button`;
    return "";
  };
  document.addEventListener("htmx:beforeSwap", (event) => {
    const live = event.detail.target;
    if (live.id !== "live") return;
    if (held) {
      event.detail.shouldSwap = false;
      waits = true;
      return;
    }
    focused = live.contains(document.activeElement) ? place(document.activeElement) : "";
    open = all("details[open][id]", live).map((one) => one.id);
    picked = new Set(picks(live).filter((one) => one.checked).map((one) => one.value));
  });
  document.addEventListener("htmx:afterSettle", () => {
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    open = [];
    const live = $("#live");
    // What comes while one chooses is not chosen, whatever the address says.
    if (picked) picks(live).forEach((one) => { one.checked = picked.has(one.value); });
    picked = null;
    tellPicks();
    tellTimes(live);
    if (focused) { const again = $(focused, live); if (again) again.focus({preventScroll: true}); }
    focused = "";
  });
  document.addEventListener("htmx:afterRequest", (event) => { connection.hidden = Boolean(event.detail.successful); });

  // --------------------------------------------------------------------------------------------------- keyboard
  const typing = (element) => element.matches("input, textarea, select, [contenteditable]");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    event.preventDefault();
    const search = $("#search");
    search.focus();
    search.select();
  });
  // ---------------------------------------------------------------------------------------- choosing among many
  const picks = (root = document) => all(".pick input", root);
  const tellPicks = () => {
    const boxes = picks(), count = boxes.filter((one) => one.checked).length;
    all(".picked").forEach((one) => { one.textContent = count ? ` (${count})` : ""; });
    const button = $("#pick-all");
    if (button) button.textContent = count && count === boxes.length ? "Choose none" : "Choose all on this page";
  };
  document.addEventListener("change", (event) => { if (event.target.matches(".pick input")) tellPicks(); });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#pick-all")) return;
    event.preventDefault();
    const boxes = picks(), every = boxes.every((one) => one.checked);
    boxes.forEach((one) => { one.checked = !every; });
    tellPicks();
  });
  addEventListener("pageshow", tellPicks);
  tellPicks();

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "1";
  });
  addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => delete form.dataset.sent));

  // ----------------------------------------------------------------------------------------------------- output
  const log = $("#log");
  if (!log) return;
  const MOST_LINES = 5000, MOST_OF_LINE = 8000, ERR = "STDERR";
  const state = $("#log-state"), found = $("#found"), find = $("#find");
  const follow = $("#follow"), wrap = $("#wrap"), times = $("#times"), next = $("#next-hit"), previous = $("#prev-hit");
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, value) => button.setAttribute("aria-pressed", String(value));
  let lines = $(".lines", log), queue = [], planned = false;

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };

  class Stream {
    constructor(stderr) { this.stderr = stderr; this.ansi = new EasyQ.Ansi(); this.text = ""; this.dropped = 0; this.at = ""; this.element = null; }

    take(text, at) {
      const parts = text.split("\n");
      parts.forEach((part, number) => {
        if (!this.text && !this.dropped) this.at = at;
        const room = MOST_OF_LINE - this.text.length;
        this.text += part.slice(0, Math.max(room, 0));
        this.dropped += Math.max(0, part.length - Math.max(room, 0));
        if (number < parts.length - 1) this.end();
        else if (this.text) this.show();
      });
    }

    // A line that has no end yet is shown, and shown again when more of it comes.
    show() {
      const before = this.ansi.style;
      this.draw();
      this.ansi.style = before;
    }

    draw() {
      if (!this.element) {
        this.element = document.createElement("div");
        this.element.className = this.stderr ? "line err" : "line";
        lines.append(this.element);
      }
      this.element.textContent = "";
      const at = document.createElement("span");
      at.className = "at";
      at.textContent = this.at.slice(11, 23);
      this.element.append(at);
      this.ansi.fill(this.element, this.text, this.dropped);
      mark(this.element);
    }

    end() { this.draw(); this.element = null; this.text = ""; this.dropped = 0; }

    close() { if (this.text || this.element) this.end(); }
  }

  let streams = {};
  const reset = () => { Object.values(streams).forEach((one) => one.close()); streams = {STDOUT: new Stream(false), STDERR: new Stream(true)}; };
  const note = (text, name = "attempt") => {
    const element = document.createElement("p");
    element.className = name;
    element.textContent = text;
    lines.append(element);
  };
  const text64 = (data) => new TextDecoder().decode(Uint8Array.from(atob(data), (one) => one.charCodeAt(0)));

  const draw = () => {
    planned = false;
    const batch = queue;
    queue = [];
    for (const one of batch) one();
    while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
    if (pressed(follow)) toEnd();
    tellHits();
  };
  const plan = (work) => { queue.push(work); if (!planned) { planned = true; requestAnimationFrame(draw); } };

  const listen = () => {
    lines = document.createElement("div");
    lines.className = "lines";
    reset();
    let begun = false, first = true;
    const begin = () => { if (!begun) { begun = true; log.replaceChildren(lines); } };
    const output = new EventSource(log.dataset.stream);
    state.textContent = "";
    output.addEventListener("attempt", (event) => {
      const data = JSON.parse(event.data);
      plan(() => {
        begin();
        reset();
        const cut = data.stdoutOffset || data.stderrOffset;
        if (!first || data.attempt > 1) note(`Attempt ${data.attempt}`);
        if (first && cut) note("Earlier output is left out; the downloads have all of it.", "log-note");
        first = false;
      });
    });
    output.addEventListener("log", (event) => {
      const data = JSON.parse(event.data);
      plan(() => { begin(); streams[data.stream === ERR ? "STDERR" : "STDOUT"].take(data.text ?? text64(data.base64), data.at || ""); });
    });
    output.addEventListener("end", (event) => {
      const data = JSON.parse(event.data);
      plan(() => {
        begin();
        reset();
        const code = data.exitCode === null ? "" : `, exit code ${data.exitCode}`;
        note(`${data.state.replace("_", " ").toLowerCase()}${code}`);
      });
      if (data.jobEnded || log.dataset.stream.includes("/executions/")) { state.textContent = "Ended"; output.close(); }
    });
    output.addEventListener("cut", () => { state.textContent = "Cut off; it goes on by itself when it can."; });
    output.addEventListener("open", () => { state.textContent = "Live"; });
    output.addEventListener("error", () => { if (output.readyState !== EventSource.CLOSED) state.textContent = "Connecting…"; else if (state.textContent === "Live") state.textContent = "Ended"; });
    addEventListener("pagehide", () => output.close(), {once: true});
  };

  // ---------------------------------------------------------------------------------------------- search in it
  let needle = "", hits = [], at = -1;
  const words = (line) => {
    const at = line.firstElementChild;
    return line.textContent.slice(at && at.className === "at" ? at.textContent.length : 0).toLowerCase();
  };
  const mark = (line) => line.classList.toggle("hit", Boolean(needle) && words(line).includes(needle));
  const tellHits = () => {
    if (!needle) return;
    hits = all(".line.hit", log);
    found.textContent = hits.length ? `${at >= 0 ? `${at + 1} of ` : ""}${hits.length} here` : "none here; Search looks through all of it";
    next.hidden = previous.hidden = !hits.length;
  };
  const look = () => {
    needle = find.value.trim().toLowerCase();
    at = -1;
    all(".line", log).forEach((line) => { line.classList.remove("at"); mark(line); });
    if (needle) tellHits();
    else { found.textContent = ""; next.hidden = previous.hidden = true; }
  };
  const go = (step) => {
    hits = all(".line.hit", log);
    if (!hits.length) return;
    if (at >= 0 && hits[at]) hits[at].classList.remove("at");
    at = (at + step + hits.length) % hits.length;
    hits[at].classList.add("at");
    press(follow, false);
    hits[at].scrollIntoView({block: "center"});
    tellHits();
  };
  find.addEventListener("input", look);
  next.addEventListener("click", () => go(1));
  previous.addEventListener("click", () => go(at < 0 ? 0 : -1));

  $("#log-switches").hidden = false;
  follow.addEventListener("click", () => { press(follow, !pressed(follow)); if (pressed(follow)) toEnd(); });
  log.addEventListener("scroll", () => { if (!atEnd()) press(follow, false); else if (log.dataset.stream) press(follow, true); }, {passive: true});
  wrap.addEventListener("click", () => { press(wrap, !pressed(wrap)); log.classList.toggle("nowrap", !pressed(wrap)); });
  times.addEventListener("click", () => { press(times, !pressed(times)); log.classList.toggle("times", pressed(times)); });
  if (log.dataset.stream) listen();
  else all("#follow, #times").forEach((one) => { one.hidden = true; });
})();
