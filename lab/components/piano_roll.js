// A piano roll to look at and listen to: canvas drawing, a playhead, sound (piano_sound.js), and who is heard when
// (piano_stage.js), which stand before this in one script.
// Runs offline. Text from files is only ever set through textContent or drawn on the canvas.

const players = new WeakMap();
const NOTE_NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const BLACK = new Set([1, 3, 6, 8, 10]);
const MAP = 34, AUDIBLE = 0.0005;
const AHEAD_S = 0.35, TICK_MS = 60;

export default function ({ data, parentElement }) {
  let player = players.get(parentElement);
  if (!player) {
    player = new Player(parentElement);
    players.set(parentElement, player);
  }
  player.show(data);
  return () => {
    player.close();
    players.delete(parentElement);
  };
}

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const noteName = (pitch) => NOTE_NAMES[pitch % 12] + (Math.floor(pitch / 12) - 1);
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);

// ---------------------------------------------------------------- the player

class Player {
  constructor(host) {
    this.host = host;
    this.root = host.querySelector(".roll");
    const find = this.find = (selector) => this.root.querySelector(selector);
    this.big = false;
    this.stage = find(".stage");
    this.base = find(".base");
    this.over = find(".over");
    this.mapBox = find(".map");
    this.map = find(".map canvas");
    this.tip = find(".note");
    this.time = find(".time");
    this.layerBox = find(".layers");
    this.playButton = find(".play");
    this.volume = find(".volume");
    this.ramp = find(".ramp");
    this.hint = find(".hint");
    this.position = 0;
    this.layer = 0;
    this.view = { start: 0, length: 30 };
    this.playing = false;
    this.piano = null;
    this.piece = null;

    this.playButton.onclick = () => this.toggle();
    this.volume.oninput = () => this.setLevel();
    find(".out").onclick = () => this.zoom(1.6);
    find(".in").onclick = () => this.zoom(1 / 1.6);
    this.stage.onkeydown = (event) => this.key(event);
    this.stage.onpointerdown = (event) => this.drag(event, this.stage, (x) => this.view.start + this.toTime(x));
    this.stage.onpointermove = (event) => this.hover(event);
    this.stage.onpointerleave = () => { this.tip.hidden = true; };
    this.stage.onwheel = (event) => this.wheel(event);
    this.mapBox.onpointerdown = (event) =>
      this.drag(event, this.mapBox, (x) => ((x - this.gutter) / (this.mapBox.clientWidth - this.gutter)) * this.length, true);
    this.someoneElse = (event) => { if (event.detail !== this) this.pause(); };
    window.addEventListener("pianistid-play", this.someoneElse);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.stage);
    this.lines = new Lines(this);
    this.theatre = new Theatre(this);
  }

  get gutter() { return this.big ? 56 : 34; }
  get axis() { return this.big ? 30 : 20; }
  get fontPx() { return this.big ? 17 : 11; }

  close() {
    this.pause();
    this.theatre.close();
    this.resized.disconnect();
    window.removeEventListener("pianistid-play", this.someoneElse);
    if (this.piano) this.piano.context.close();
  }

  show(data) {
    const chosen = this.data?.layers[this.layer]?.name;
    this.data = data;
    this.length = Math.max(data.duration, 0.1);
    loadBank(data.bank).then((samples) => this.root.setAttribute("data-samples", String(samples?.length ?? 0)));
    if (this.piece !== data.piece) {
      this.pause();
      this.piece = data.piece;
      this.position = clamp(data.begin || 0, 0, this.length);
      this.layer = 0;
      const length = Math.min(this.length, data.window);
      this.view = { start: clamp(this.position - length * 0.15, 0, this.length - length), length };
      this.theatre.revealed = false;
    } else {
      // Layers may come later than the notes; what is heard stays what it was.
      this.layer = Math.max(0, data.layers.findIndex((layer) => layer.name === chosen));
    }
    if (this.layer >= data.layers.length) this.layer = 0;
    this.colours();
    this.buildLayers();
    this.mapBox.hidden = !data.bands.length && this.view.length >= this.length;
    this.stage.setAttribute("aria-label",
      `Piano roll of ${data.label}. Space plays, arrow keys move, plus and minus change how much time is shown.`);
    this.stage.setAttribute("aria-valuemin", "0");
    this.stage.setAttribute("aria-valuemax", String(Math.round(this.length)));
    this.range();
    const moments = data.moments ? new Moments(data.moments) : null;
    this.lines.show(moments);
    this.theatre.fill(moments, data.verdict);
    this.draw();
  }

  get stageHeight() { return this.big ? this.stage.clientHeight : this.data.height; }

  colours() {
    const style = getComputedStyle(this.root);
    const read = (name) => style.getPropertyValue(name).trim();
    this.ink = read("--st-text-color");
    this.paper = read("--st-background-color");
    this.panel = read("--st-secondary-background-color");
    this.line = read("--st-border-color");
    this.accent = read("--st-primary-color");
    this.palette = read("--st-chart-categorical-colors").split(",").map((colour) => colour.trim());
    const ramp = read("--st-chart-sequential-colors").split(",").map((colour) => colour.trim());
    this.velocities = ramp.slice(3);
    const dark = /^#[0-4]/.test(this.paper);
    this.keys = dark ? { white: "#b9b1a3", black: "#191714" } : { white: "#fffdf8", black: "#3a342b" };
    this.font = style.fontFamily;
    const far = (colour, share) => `color-mix(in srgb, ${colour} ${100 * share}%, ${this.line})`;
    this.against = this.palette[0];
    this.favour = this.palette[1];
    this.scores = Array.from({ length: 21 }, (_, i) => far(i < 10 ? this.against : this.favour, Math.abs(i - 10) / 10));
  }

  colour(given) {
    if (given === null || given === undefined) return this.ink;
    return typeof given === "string" ? given : this.palette[given % this.palette.length];
  }

  // Black or white, whichever is clearer on a colour that covers the paper by a share.
  inkOn(colour, share) {
    const under = rgb(this.paper);
    const [r, g, b] = rgb(colour).map((c, i) => linear(c * share + under[i] * (1 - share)));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  }

  shade(layer, i) {
    if (layer.w) return this.scores[Math.round(layer.w[i] / 100) + 10];
    const velocity = layer.v[i];
    if (layer.colour !== null) return this.colour(layer.colour);
    return this.velocities[clamp(Math.floor((velocity / 128) * this.velocities.length), 0, this.velocities.length - 1)];
  }

  buildLayers() {
    this.layerBox.replaceChildren();
    this.layerBox.hidden = this.data.layers.length < 2;
    this.data.layers.forEach((layer, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", String(index === this.layer));
      button.tabIndex = index === this.layer ? 0 : -1;
      if (layer.colour !== null || layer.w) {
        const dot = document.createElement("span");
        dot.className = "dot";
        dot.style.background = layer.w
          ? `linear-gradient(90deg, ${this.against} 50%, ${this.favour} 50%)` : this.colour(layer.colour);
        button.append(dot);
      }
      const name = document.createElement("span");
      name.textContent = layer.name;
      button.append(name);
      button.title = layer.help;
      button.onclick = () => this.choose(index);
      button.onkeydown = (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const count = this.data.layers.length;
        this.choose((index + step + count) % count, true);
      };
      this.layerBox.append(button);
    });
    const { colour, w, help, poles } = this.notes;
    this.ramp.hidden = colour !== null && !w;
    this.find(".low").textContent = w ? poles[0] : "soft";
    this.find(".top").textContent = w ? poles[1] : "loud";
    this.ramp.querySelector("i").style.background =
      `linear-gradient(90deg, ${(w ? this.scores : this.velocities).join(",")})`;
    this.hint.textContent = help;
    this.hint.hidden = !this.hint.textContent;
  }

  choose(index, focus = false) {
    const wasPlaying = this.playing;
    this.pause();
    this.layer = index;
    this.buildLayers();
    if (focus) this.layerBox.children[index].focus();
    this.range();
    this.draw();
    this.theatre.follow();
    if (wasPlaying) this.play();
  }

  get notes() { return this.data.layers[this.layer]; }

  range() {
    const pitches = this.notes.p;
    let low = 108, high = 21;
    for (const pitch of pitches) { if (pitch < low) low = pitch; if (pitch > high) high = pitch; }
    if (low > high) { low = 48; high = 84; }
    this.low = Math.max(0, low - 3);
    this.high = Math.min(127, high + 3);
    const short = 30 - (this.high - this.low);
    if (short > 0) { this.low = Math.max(0, this.low - Math.ceil(short / 2)); this.high = this.low + 30; }
  }

  // ------------------------------------------------------------ moving

  toTime(x) { return ((x - this.gutter) / (this.stage.clientWidth - this.gutter)) * this.view.length; }
  toX(time) { return this.gutter + ((time - this.view.start) / this.view.length) * (this.stage.clientWidth - this.gutter); }

  seek(time, follow = true) {
    const wasPlaying = this.playing;
    if (wasPlaying) this.pause();
    this.position = clamp(time, 0, this.length);
    if (follow) this.follow(); else { this.paintOver(); this.lines.follow(); this.theatre.follow(); }
    this.drawMap();
    if (wasPlaying && this.position < this.length) this.play();
  }

  follow() {
    const { start, length } = this.view;
    if (this.big && this.playing) {
      // On a stage the music comes to the playhead, not the playhead to the music.
      this.view.start = clamp(this.position - length * 0.3, 0, Math.max(0, this.length - length));
      this.draw();
    } else if (this.position < start || this.position > start + length * 0.96) {
      this.view.start = clamp(this.position - length * 0.06, 0, Math.max(0, this.length - length));
      if (this.view.start !== start) this.draw();
    }
    this.paintOver();
    this.lines.follow();
    this.theatre.follow();
  }

  zoom(factor) {
    const length = clamp(this.view.length * factor, Math.min(2, this.length), this.length);
    const centre = clamp(this.position, this.view.start, this.view.start + this.view.length);
    this.view = { start: clamp(centre - length / 2, 0, this.length - length), length };
    this.mapBox.hidden = !this.data.bands.length && length >= this.length;
    this.draw();
  }

  wheel(event) {
    if (Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
    event.preventDefault();
    const step = (event.deltaX / this.stage.clientWidth) * this.view.length;
    this.view.start = clamp(this.view.start + step, 0, Math.max(0, this.length - this.view.length));
    this.draw();
  }

  drag(event, box, timeAt, follow = false) {
    const move = (e) => this.seek(timeAt(e.clientX - box.getBoundingClientRect().left), follow);
    box.setPointerCapture(event.pointerId);
    move(event);
    const moving = (e) => { if (e.pointerId === event.pointerId) move(e); };
    const done = () => {
      box.removeEventListener("pointermove", moving);
      box.removeEventListener("pointerup", done);
      box.removeEventListener("pointercancel", done);
    };
    box.addEventListener("pointermove", moving);
    box.addEventListener("pointerup", done);
    box.addEventListener("pointercancel", done);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 10 : 1;
    const actions = {
      " ": () => this.toggle(),
      Enter: () => this.toggle(),
      ArrowRight: () => this.seek(this.position + step),
      ArrowLeft: () => this.seek(this.position - step),
      PageDown: () => this.seek(this.position + 30),
      PageUp: () => this.seek(this.position - 30),
      Home: () => this.seek(0),
      End: () => this.seek(this.length),
      "+": () => this.zoom(1 / 1.6),
      "-": () => this.zoom(1.6),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  hover(event) {
    const box = this.stage.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const time = 1000 * (this.view.start + this.toTime(x)), pitch = this.high - Math.floor(y / this.row);
    const { s, e, p, v } = this.notes;
    let found = -1;
    if (x > this.gutter) for (let i = 0; i < s.length; i++) if (p[i] === pitch && s[i] <= time && e[i] >= time) found = i;
    this.tip.hidden = found < 0;
    if (found < 0) return;
    this.tip.textContent = `${noteName(pitch)}, velocity ${v[found]}, at ${(s[found] / 1000).toFixed(2)} s`;
    this.tip.style.left = `${clamp(x + 12, 0, box.width - this.tip.offsetWidth - 4)}px`;
    this.tip.style.top = `${clamp(y - 30, 2, box.height - 24)}px`;
  }

  // ------------------------------------------------------------ playing

  toggle() { if (this.playing) this.pause(); else this.play(); }

  setLevel() {
    if (this.piano) this.piano.level.gain.value = (Number(this.volume.value) / 100) ** 2;
  }

  play() {
    const pressed = performance.now();
    if (!this.piano) this.piano = new Piano();
    this.setLevel();
    this.piano.context.resume();
    this.root.removeAttribute("data-latency");
    this.root.setAttribute("data-sound", shelf.samples ? "piano" : "tone");
    if (this.position >= this.length - 0.05) this.position = 0;
    window.dispatchEvent(new CustomEvent("pianistid-play", { detail: this }));
    this.playing = true;
    this.root.classList.add("playing");
    this.playButton.setAttribute("aria-label", "Pause");
    this.began = { at: this.piano.context.currentTime + 0.05, from: this.position, pressed };
    const from = this.position * 1000;
    this.next = this.notes.s.findIndex((onset) => onset >= from - 1);
    if (this.next < 0) this.next = this.notes.s.length;
    this.schedule();
    this.timer = setInterval(() => this.schedule(), TICK_MS);
    this.frame();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    clearInterval(this.timer);
    cancelAnimationFrame(this.animation);
    this.position = clamp(this.now(), 0, this.length);
    this.piano.hush();
    this.root.classList.remove("playing");
    this.playButton.setAttribute("aria-label", "Play");
    this.paintOver();
  }

  now() { return this.began.from + Math.max(0, this.piano.context.currentTime - this.began.at); }

  schedule() {
    const { s, e, p, v } = this.notes;
    const until = (this.now() + (document.hidden ? 2.5 : AHEAD_S)) * 1000;
    while (this.next < s.length && s[this.next] <= until) {
      const i = this.next++;
      const when = this.began.at + s[i] / 1000 - this.began.from;
      this.piano.strike(p[i], v[i], when, (e[i] - s[i]) / 1000);
    }
    if (this.now() >= this.length) {
      this.pause();
      this.position = this.length;
      this.paintOver();
    }
  }

  frame() {
    if (!this.playing) return;
    this.position = clamp(this.now(), 0, this.length);
    this.follow();
    // For whoever tests that there is sound: how long it took to begin, in ms, and how loud it was lately.
    if (!this.root.hasAttribute("data-latency") && this.piano.context.currentTime >= this.began.at) {
      this.root.setAttribute("data-latency", String(Math.round(performance.now() - this.began.pressed)));
    }
    const level = this.piano.loudness();
    if (level > AUDIBLE) this.root.setAttribute("data-level", level.toFixed(3));
    this.animation = requestAnimationFrame(() => this.frame());
  }

  // ------------------------------------------------------------ drawing

  canvas(element, width, height) {
    const ratio = window.devicePixelRatio || 1;
    if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
      element.width = Math.round(width * ratio);
      element.height = Math.round(height * ratio);
      element.style.height = `${height}px`;
    }
    const context = element.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `${this.fontPx}px ${this.font}`;
    context.textBaseline = "middle";
    return context;
  }

  draw() {
    if (!this.data) return;
    const width = this.stage.clientWidth, height = this.stageHeight;
    if (!width) return;
    const c = this.canvas(this.base, width, height);
    const rows = this.high - this.low + 1;
    this.row = (height - this.axis) / rows;
    for (let pitch = this.low; pitch <= this.high; pitch++) {
      const y = (this.high - pitch) * this.row, black = BLACK.has(pitch % 12);
      if (black) { c.fillStyle = this.panel; c.fillRect(this.gutter, y, width - this.gutter, this.row); }
      c.fillStyle = this.keys.white;
      c.fillRect(0, y, this.gutter - 2, this.row + 0.5);
      c.fillStyle = this.keys.black;
      if (black) c.fillRect(0, y, this.gutter * 0.45, this.row);
    }
    c.strokeStyle = this.line;
    c.lineWidth = 1;
    for (let pitch = this.low; pitch <= this.high; pitch++) {
      if (pitch % 12) continue;
      const y = Math.round((this.high - pitch + 1) * this.row) - 0.5;
      c.beginPath(); c.moveTo(0, y); c.lineTo(width, y); c.stroke();
      c.fillStyle = this.keys.black;
      c.globalAlpha = 0.85;
      c.fillText(noteName(pitch), this.gutter * 0.45 + 2, y - Math.max(5, this.row / 2));
      c.globalAlpha = 1;
    }
    this.drawAxis(c, width, height);
    c.save();
    c.beginPath();
    c.rect(this.gutter, 0, width - this.gutter, height - this.axis);
    c.clip();
    const layer = this.notes, from = this.view.start * 1000, to = from + this.view.length * 1000;
    // What matters most is drawn last, over the rest.
    layer.order ??= layer.w ? layer.w.map((_, i) => i).sort((a, b) => Math.abs(layer.w[a]) - Math.abs(layer.w[b])) : null;
    for (let at = 0; at < layer.s.length; at++) {
      const i = layer.order ? layer.order[at] : at;
      if (layer.e[i] < from || layer.s[i] > to) continue;
      const x = this.toX(layer.s[i] / 1000), end = this.toX(layer.e[i] / 1000);
      const y = (this.high - layer.p[i]) * this.row;
      c.fillStyle = this.shade(layer, i);
      c.fillRect(x, y + 0.5, Math.max(1.5, end - x - 0.75), Math.max(1.5, this.row - 1));
    }
    c.restore();
    if (!this.playing || performance.now() - (this.mapped || 0) > 250) { this.mapped = performance.now(); this.drawMap(); }
    this.paintOver();
    this.lines.follow();
  }

  drawAxis(c, width, height) {
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
    const step = steps.find((s) => (s / this.view.length) * (width - this.gutter) > 58) || 3600;
    c.strokeStyle = this.line;
    c.fillStyle = this.ink;
    for (let t = Math.ceil(this.view.start / step) * step; t <= this.view.start + this.view.length; t += step) {
      const x = Math.round(this.toX(t)) + 0.5;
      c.beginPath(); c.moveTo(x, 0); c.lineTo(x, height - this.axis + 4); c.stroke();
      const label = step < 1 ? `${t.toFixed(1)} s` : clock(t);
      const w = c.measureText(label).width;
      c.globalAlpha = 0.75;
      if (x + 3 + w < width) c.fillText(label, x + 3, height - this.axis / 2 + 1);
      c.globalAlpha = 1;
    }
    c.beginPath(); c.moveTo(0, height - this.axis + 0.5); c.lineTo(width, height - this.axis + 0.5); c.stroke();
  }

  drawMap() {
    if (this.mapBox.hidden) return;
    const width = this.mapBox.clientWidth, c = this.canvas(this.map, width, MAP);
    const toX = (time) => this.gutter + (time / this.length) * (width - this.gutter);
    const layer = this.notes, rows = this.high - this.low + 1, top = this.data.bands.length ? 15 : 3;
    c.fillStyle = this.ink;
    c.globalAlpha = 0.45;
    for (let i = 0; i < layer.s.length; i++) {
      const x = toX(layer.s[i] / 1000), y = top + ((this.high - layer.p[i]) / rows) * (MAP - top - 3);
      c.fillRect(x, y, Math.max(1, toX(layer.e[i] / 1000) - x), 1);
    }
    c.globalAlpha = 1;
    for (const band of this.data.bands) {
      const x = toX(band.start), w = toX(Math.min(band.end, this.length)) - x - 1;
      c.fillStyle = this.colour(band.colour);
      c.globalAlpha = band.strength;
      c.fillRect(x, 2, w, 11);
      c.globalAlpha = 1;
      c.save();
      c.beginPath(); c.rect(x, 0, w, 14); c.clip();
      c.fillStyle = this.inkOn(this.colour(band.colour), band.strength);
      c.font = `10px ${this.font}`;
      if (w > 24) c.fillText(band.label, x + 4, 8.5);
      c.restore();
    }
    c.strokeStyle = this.accent;
    c.lineWidth = 1.5;
    const left = toX(this.view.start), right = toX(this.view.start + this.view.length);
    if (this.view.length < this.length - 0.01) c.strokeRect(left + 0.75, 0.75, right - left - 1.5, MAP - 1.5);
    c.fillStyle = this.accent;
    c.fillRect(toX(this.position) - 1, 0, 2, MAP);
  }

  paintOver() {
    const width = this.stage.clientWidth, height = this.stageHeight;
    if (!width || !this.data) return;
    const c = this.canvas(this.over, width, height), x = this.toX(this.position);
    if (this.playing) {
      const layer = this.notes, now = this.position * 1000;
      c.fillStyle = this.ink;
      for (let i = 0; i < layer.s.length && layer.s[i] <= now; i++) {
        if (layer.e[i] < now) continue;
        const left = Math.max(this.gutter, this.toX(layer.s[i] / 1000)), right = this.toX(layer.e[i] / 1000);
        const y = (this.high - layer.p[i]) * this.row;
        c.fillRect(left, y + 0.5, Math.max(2, right - left - 0.75), Math.max(1.5, this.row - 1));
        c.fillStyle = this.accent;
        c.fillRect(0, y, this.gutter - 2, Math.max(2, this.row));
        c.fillStyle = this.ink;
      }
      if (performance.now() - (this.mapped || 0) > 250) { this.mapped = performance.now(); this.drawMap(); }
    }
    if (x >= this.gutter - 1 && x <= width + 1) {
      c.fillStyle = this.accent;
      c.fillRect(x - 1, 0, 2, height - this.axis);
      c.beginPath(); c.moveTo(x - 5, 0); c.lineTo(x + 5, 0); c.lineTo(x, 7); c.fill();
    }
    const text = `${clock(this.position)} / ${clock(this.length)}`;
    if (this.time.textContent !== text) {
      this.time.textContent = text;
      this.stage.setAttribute("aria-valuenow", String(Math.floor(this.position)));
      this.stage.setAttribute("aria-valuetext", `${clock(this.position)} of ${clock(this.length)}`);
    }
  }
}
