"use strict";
// Output for terminals as elements: the same as domain/ansi.py and domain/visible.py do on the server. Text becomes text
// nodes only, whatever it looks like.
(() => {
  const ESCAPE = /\x1b\[([0-9;:]*)(m)|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?/g;
  const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;
  const CONTROLS = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
  const SHORT = {"\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM", "\u061c": "ALM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM", "\u2028": "LS", "\u2029": "PS", "\x7f": "DEL"};
  const BASE = [[0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229], [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255]];
  const CHANGES = {1: {bold: true}, 2: {dim: true}, 3: {italic: true}, 4: {underline: true}, 7: {inverse: true}, 9: {struck: true}, 21: {underline: true}, 22: {bold: false, dim: false}, 23: {italic: false}, 24: {underline: false}, 27: {inverse: false}, 29: {struck: false}, 39: {ink: null}, 49: {ground: null}};
  const PLAIN = {bold: false, dim: false, italic: false, underline: false, inverse: false, struck: false, ink: null, ground: null};
  const MOST = 4000;

  const nearest = (...given) => {
    let best = 0, least = Infinity;
    BASE.forEach((colour, at) => {
      const distance = colour.reduce((sum, one, i) => sum + (one - given[i]) ** 2, 0);
      if (distance < least) { least = distance; best = at; }
    });
    return best;
  };

  const indexed = (number) => {
    if (number < 16) return number;
    if (number < 232) {
      const levels = [Math.floor((number - 16) / 36), Math.floor((number - 16) / 6) % 6, (number - 16) % 6];
      return nearest(...levels.map((one) => (one ? 55 + 40 * one : 0)));
    }
    if (number < 256) return nearest(...Array(3).fill(8 + 10 * (number - 232)));
    return null;
  };

  const changed = (style, numbers) => {
    const left = numbers.split(/[;:]/).slice(0, 64).map((one) => (one ? parseInt(one.slice(0, 4), 10) : 0));
    style = {...style};
    while (left.length) {
      const number = left.shift();
      if (number === 38 || number === 48) {
        let colour = null;
        if (left[0] === 5 && left.length > 1) colour = indexed(left.splice(0, 2)[1]);
        else if (left[0] === 2 && left.length > 3) colour = nearest(...left.splice(0, 4).slice(1));
        else left.length = 0;
        if (colour !== null) style[number === 38 ? "ink" : "ground"] = colour;
      } else if (number === 0) {
        style = {...PLAIN};
      } else if (CHANGES[number]) {
        Object.assign(style, CHANGES[number]);
      } else {
        for (const [first, name, base] of [[30, "ink", 0], [90, "ink", 8], [40, "ground", 0], [100, "ground", 8]]) {
          if (number >= first && number < first + 8) style[name] = base + number - first;
        }
      }
    }
    return style;
  };

  const classes = (style) => {
    const names = ["bold", "dim", "italic", "underline", "struck"].filter((name) => style[name]);
    const [ink, ground] = style.inverse ? [style.ground, style.ink] : [style.ink, style.ground];
    if (style.inverse && ink === null && ground === null) names.push("inverse");
    if (ink !== null) names.push(`ink${ink}`);
    if (ground !== null) names.push(`ground${ground}`);
    return names.map((name) => `ansi-${name}`).join(" ");
  };

  const symbol = (character) => {
    const code = character.codePointAt(0);
    if (code < 32) return `⟨${CONTROLS[code]}⟩`;
    return `⟨${SHORT[character] || "U+" + code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  };

  const addText = (element, text) => {
    let begin = 0;
    for (const match of text.matchAll(HIDDEN)) {
      if (match.index > begin) element.append(text.slice(begin, match.index));
      const mark = document.createElement("span");
      mark.className = "hidden-char";
      mark.title = `U+${match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
      mark.textContent = symbol(match[0]);
      element.append(mark);
      begin = match.index + match[0].length;
    }
    if (begin < text.length) element.append(text.slice(begin));
  };

  class Ansi {
    constructor() { this.style = PLAIN; }

    // Puts a line into an element. `dropped`: characters of it that were left out before.
    fill(element, text, dropped = 0) {
      text = text.replace(/\r+$/, "");
      const at = text.lastIndexOf("\r");
      if (at >= 0) this.runs(text.slice(0, at), () => {});
      let left = MOST;
      this.runs(text.slice(at + 1), (run, style) => {
        const shown = run.slice(0, Math.max(left, 0));
        left -= run.length;
        if (!shown) return;
        const names = classes(style);
        if (!names) { addText(element, shown); return; }
        const span = document.createElement("span");
        span.className = names;
        addText(span, shown);
        element.append(span);
      });
      const more = dropped + Math.max(0, -left);
      if (more) {
        const cut = document.createElement("span");
        cut.className = "cut";
        cut.textContent = `… ${more.toLocaleString("en")} more character${more === 1 ? "" : "s"}`;
        element.append(cut);
      }
    }

    runs(text, take) {
      let begin = 0;
      for (const match of text.matchAll(ESCAPE)) {
        if (match.index > begin) take(text.slice(begin, match.index), this.style);
        begin = match.index + match[0].length;
        if (match[2]) this.style = changed(this.style, match[1]);
      }
      if (begin < text.length) take(text.slice(begin), this.style);
    }
  }

  window.EasyQ = {Ansi};
})();
