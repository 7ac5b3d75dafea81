// A piano to play: pointer, computer keys, Web MIDI. It records on request, and gives the take to Python when stopped.

const boards = new WeakMap();
const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const IS_BLACK = new Set([1, 3, 6, 8, 10]);
const LOWER_ROW = ["KeyZ", "KeyS", "KeyX", "KeyD", "KeyC", "KeyV", "KeyG", "KeyB", "KeyH", "KeyN", "KeyJ", "KeyM", "Comma", "KeyL", "Period"];
const UPPER_ROW = ["KeyQ", "Digit2", "KeyW", "Digit3", "KeyE", "KeyR", "Digit5", "KeyT", "Digit6", "KeyY", "Digit7", "KeyU", "KeyI", "Digit9", "KeyO", "Digit0", "KeyP"];
const STEPS = new Map([...LOWER_ROW.map((code, i) => [code, i]), ...UPPER_ROW.map((code, i) => [code, i + 12])]);
const LOWEST = 21, HIGHEST = 108, TRAIL_S = 4, MOST_NOTES = 20000;

export default function ({ data, parentElement, setStateValue }) {
  let board = boards.get(parentElement);
  if (!board) boards.set(parentElement, (board = new Board(parentElement)));
  board.send = (take) => setStateValue("take", take);
  loadBank(data.bank).then((samples) => board.root.setAttribute("data-samples", String(samples?.length ?? 0)));
  return () => { board.close(); boards.delete(parentElement); };
}

const letter = (code) => ({ Comma: ",", Period: "." })[code] ?? code.replace(/^(Key|Digit)/, "");

class Board {
  constructor(host) {
    const find = (this.find = (selector) => host.querySelector(selector));
    this.root = find(".board");
    this.bed = find(".bed");
    this.keys = find(".keys");
    this.trail = find(".trail");
    this.octave = 3;
    this.down = new Map(); // what holds a key (a pointer, a computer key, MIDI) -> its key
    this.sounding = new Map(); // key -> { release, note }
    this.rain = [];
    this.takes = 0;
    this.recorded = null;
    find(".record").onclick = () => (this.recorded ? this.stop() : this.record());
    find(".clear").onclick = () => this.clear();
    find(".lower").onclick = () => this.shift(-1);
    find(".higher").onclick = () => this.shift(1);
    find(".connect").onclick = () => this.connect();
    find(".connect").hidden = !navigator.requestMIDIAccess;
    this.keys.onkeydown = (event) => this.keyDown(event);
    this.keys.onkeyup = (event) => this.keyUp(event);
    this.keys.onblur = () => this.letGo("code:");
    this.bed.onpointerdown = (event) => this.pointerDown(event);
    this.bed.onpointermove = (event) => this.pointerMove(event);
    this.bed.onpointerup = this.bed.onpointercancel = (event) => this.release(`pointer:${event.pointerId}`);
    this.resized = new ResizeObserver(() => this.lay());
    this.resized.observe(this.bed);
    this.lay();
  }

  close() {
    this.resized.disconnect();
    this.letGo("");
    clearInterval(this.clock);
    cancelAnimationFrame(this.animation);
    if (this.access) {
      this.access.onstatechange = null;
      for (const input of this.access.inputs.values()) input.onmidimessage = null;
    }
    if (this.piano) this.piano.context.close();
  }

  // ------------------------------------------------------------ keys on the page

  lay() {
    const width = this.bed.clientWidth, octaves = width > 1000 ? 5 : width > 640 ? 4 : 2;
    const from = clamp(12 * (this.octave + 1) - (octaves > 2 ? 12 : 0), 24, HIGHEST - 12 * octaves);
    this.find(".octave").textContent = `Octave ${this.octave}`;
    if (this.laid === `${octaves}/${from}/${this.octave}`) return;
    this.laid = `${octaves}/${from}/${this.octave}`;
    this.from = from;
    this.to = from + 12 * octaves;
    const whites = 7 * octaves + 1, codes = new Map([...STEPS].map(([code, step]) => [12 * (this.octave + 1) + step, code]));
    let white = 0;
    const keys = [];
    for (let pitch = this.from; pitch <= this.to; pitch++) {
      const key = document.createElement("div"), black = IS_BLACK.has(pitch % 12);
      key.className = `key ${black ? "black" : "white"}`;
      key.dataset.pitch = String(pitch);
      key.style.left = `${(100 * (black ? white - 0.3 : white)) / whites}%`;
      key.style.width = `${(black ? 60 : 100) / whites}%`;
      const hint = document.createElement("span");
      hint.className = "hint";
      hint.textContent = codes.has(pitch) && octaves > 2 ? letter(codes.get(pitch)) : "";
      key.append(hint);
      if (pitch % 12 === 0) {
        const name = document.createElement("span");
        name.className = "octave-name";
        name.textContent = `C${pitch / 12 - 1}`;
        key.append(name);
      }
      if (!black) white++;
      keys.push(key);
    }
    this.bed.replaceChildren(...keys);
  }

  shift(by) {
    this.letGo("code:");
    this.octave = clamp(this.octave + by, 1, 6);
    this.lay();
  }

  at(event) {
    const box = this.bed.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const hits = [...this.bed.children].filter((key) => {
      const left = key.offsetLeft, right = left + key.offsetWidth;
      return x >= left && x < right && y >= 0 && y < key.offsetHeight;
    });
    const key = hits.find((one) => one.classList.contains("black")) ?? hits[0];
    // As on a real key the front edge has the longer lever.
    return key ? { pitch: Number(key.dataset.pitch), velocity: Math.round(40 + 75 * clamp(y / key.offsetHeight, 0, 1)) } : null;
  }

  pointerDown(event) {
    event.preventDefault();
    this.keys.focus({ preventScroll: true });
    this.bed.setPointerCapture(event.pointerId);
    const hit = this.at(event);
    if (hit) this.press(`pointer:${event.pointerId}`, hit.pitch, hit.velocity);
  }

  pointerMove(event) {
    const holder = `pointer:${event.pointerId}`;
    if (!this.down.has(holder)) return;
    const hit = this.at(event);
    if (hit && hit.pitch !== this.down.get(holder)) { this.release(holder); this.press(holder, hit.pitch, hit.velocity); }
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowUp: 1, ArrowDown: -1 }[event.code];
    if (moves === undefined && !STEPS.has(event.code)) return;
    event.preventDefault();
    event.stopPropagation();
    if (moves) this.shift(moves);
    else if (!event.repeat) this.press(`code:${event.code}`, 12 * (this.octave + 1) + STEPS.get(event.code), Number(this.find(".touch input").value));
  }

  keyUp(event) {
    if (!STEPS.has(event.code)) return;
    event.stopPropagation();
    this.release(`code:${event.code}`);
  }

  // ------------------------------------------------------------ a MIDI keyboard

  async connect() {
    const say = (text) => { this.find(".midi").hidden = false; this.find(".midi").textContent = text; };
    try {
      this.access = await navigator.requestMIDIAccess({ sysex: false });
    } catch {
      say("The browser did not allow MIDI keyboards. Allow them in the settings of this site, then try again; the keys here play without.");
      return;
    }
    const listen = () => {
      const inputs = [...this.access.inputs.values()].filter((input) => input.state !== "disconnected");
      for (const input of inputs) input.onmidimessage = (message) => this.message(message.data);
      say(inputs.length ? `Connected: ${inputs.map((input) => input.name || "a MIDI keyboard").join(", ")}.` : "No MIDI keyboard is plugged in. Plug one in: it is found by itself.");
    };
    this.access.onstatechange = listen;
    listen();
  }

  message([status, key, value]) {
    const kind = status & 0xf0;
    if (kind === 0x90 && value) this.press(`midi:${key}`, key, value);
    else if (kind === 0x80 || kind === 0x90) this.release(`midi:${key}`);
    else if (kind === 0xb0 && key === 64) this.pedal(value >= 64);
  }

  // The pedal holds the sound; the recording keeps when keys were let go, as the data sets do.
  pedal(held) {
    this.held = held;
    if (held) return;
    for (const release of this.ringing ?? []) release();
    this.ringing = [];
  }

  // ------------------------------------------------------------ playing and recording

  press(holder, pitch, velocity) {
    if (pitch < LOWEST || pitch > HIGHEST) return;
    if (!this.piano) { this.piano = new Piano(); this.piano.level.gain.value = 0.6; }
    this.piano.context.resume();
    this.release(holder);
    if (this.sounding.has(pitch)) this.silence(pitch);
    const now = performance.now(), release = this.piano.strike(pitch, velocity, 0);
    const note = { on: now, off: null, pitch, velocity };
    this.down.set(holder, pitch);
    this.sounding.set(pitch, { release, note });
    this.root.setAttribute("data-sound", shelf.samples ? "piano" : "tone");
    this.rain.push(note);
    if (this.recorded && this.recorded.length < MOST_NOTES) this.recorded.push(note);
    this.bed.querySelector(`[data-pitch="${pitch}"]`)?.classList.add("down");
    this.paint();
  }

  release(holder) {
    const pitch = this.down.get(holder);
    if (pitch === undefined) return;
    this.down.delete(holder);
    if (![...this.down.values()].includes(pitch)) this.silence(pitch);
  }

  silence(pitch) {
    const one = this.sounding.get(pitch);
    if (!one) return;
    this.sounding.delete(pitch);
    one.note.off = performance.now();
    if (this.held) (this.ringing ??= []).push(one.release); else one.release();
    this.bed.querySelector(`[data-pitch="${pitch}"]`)?.classList.remove("down");
  }

  letGo(kind) { for (const holder of [...this.down.keys()]) if (holder.startsWith(kind)) this.release(holder); }

  record() {
    this.recorded = [];
    this.root.classList.add("recording");
    this.find(".record").setAttribute("aria-pressed", "true");
    this.find(".record .text").textContent = "Stop and identify";
    this.find(".clear").disabled = true;
    this.clock = setInterval(() => this.tell(), 250);
    this.keys.focus({ preventScroll: true });
    this.tell();
  }

  tell() {
    const n = this.recorded.length, seconds = n ? (performance.now() - this.recorded[0].on) / 1000 : 0;
    const state = this.find(".state"), text = n ? `${Math.floor(seconds)} s, ${n} note${n === 1 ? "" : "s"}` : "Recording. It begins with the first note.";
    if (state.textContent !== text) state.textContent = text;
  }

  stop() {
    clearInterval(this.clock);
    this.letGo("");
    const begin = this.recorded[0]?.on ?? 0;
    const notes = this.recorded.map(({ on, off, pitch, velocity }) => [Math.round(on - begin), Math.max(Math.round(off - begin), Math.round(on - begin) + 20), pitch, velocity]);
    this.recorded = null;
    this.root.classList.remove("recording");
    this.find(".record").setAttribute("aria-pressed", "false");
    this.find(".record .text").textContent = "Record again";
    this.find(".clear").disabled = !notes.length;
    if (!notes.length) { this.find(".state").textContent = "Nothing was played."; return; }
    this.takes += 1;
    this.find(".state").textContent = `Take ${this.takes}: ${Math.round(Math.max(...notes.map((note) => note[1])) / 1000)} s, ${notes.length} notes.`;
    this.send({ number: this.takes, notes });
  }

  clear() {
    this.find(".clear").disabled = true;
    this.find(".record .text").textContent = "Record";
    this.find(".state").textContent = "Press Record and play. A minute is plenty.";
    this.send(null);
  }

  // ------------------------------------------------------------ what was just played, rising from the keys

  paint() {
    cancelAnimationFrame(this.animation);
    const frame = () => {
      const now = performance.now(), ratio = window.devicePixelRatio || 1, width = this.trail.clientWidth, height = 84;
      this.rain = this.rain.filter((note) => !note.off || now - note.off < 1000 * TRAIL_S);
      this.trail.width = Math.round(width * ratio);
      this.trail.height = Math.round(height * ratio);
      const c = this.trail.getContext("2d");
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      const style = getComputedStyle(this.root), colour = style.getPropertyValue("--st-primary-color").trim();
      for (const { on, off, pitch, velocity } of this.rain) {
        const key = this.bed.querySelector(`[data-pitch="${pitch}"]`);
        if (!key) continue;
        const toY = (at) => height - ((now - at) / (1000 * TRAIL_S)) * height;
        c.globalAlpha = 0.3 + 0.7 * (velocity / 127);
        c.fillStyle = colour;
        const top = toY(on), bottom = off ? toY(off) : height;
        c.beginPath();
        c.roundRect(key.offsetLeft + 2, top, Math.max(3, key.offsetWidth - 4), Math.max(3, bottom - top), 3);
        c.fill();
      }
      if (this.rain.length) this.animation = requestAnimationFrame(frame);
    };
    frame();
  }
}
