// Who is heard when: the moments of a piece, their lines under the roll, and the stage view that follows the sound.

const mix = (a, b, share) => a + (b - a) * share;
const percent = (share) => `${Math.round(100 * share)} %`;
// The same words at the same shares as beside the answer.
const howSure = (share) => {
  if (share >= 0.9) return "sure";
  if (share >= 0.75) return "fairly sure";
  return share >= 0.5 ? "with some doubt" : "could be someone else";
};
const made = (tag, className, text = "") => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
};

// The shares of every name at a time in ms: between the middles of stretches that overlap, else of the stretch there.
class Moments {
  constructor(data) {
    this.names = data.names;
    this.colours = data.colours;
    this.smooth = data.smooth;
    this.starts = data.starts;
    this.ends = data.ends;
    this.middles = data.starts.map((start, i) => (start + data.ends[i]) / 2);
    this.shares = data.shares;
    this.concepts = data.concepts;
    const total = (n) => this.shares.reduce((sum, row) => sum + row[n], 0);
    const named = this.names.map((_, n) => n).filter((n) => this.names[n]);
    this.ranked = named.sort((a, b) => total(b) - total(a)).slice(0, 5);
  }

  at(ms, rows = this.shares) {
    if (!this.smooth) {
      let i = 0;
      while (i + 1 < this.starts.length && this.starts[i + 1] <= ms) i++;
      return rows[i].map((share) => share / 1000);
    }
    const later = this.middles.findIndex((middle) => middle > ms);
    if (later <= 0) return rows[later < 0 ? rows.length - 1 : 0].map((share) => share / 1000);
    const part = (ms - this.middles[later - 1]) / (this.middles[later] - this.middles[later - 1]);
    return rows[later].map((share, n) => mix(rows[later - 1][n], share, part) / 1000);
  }

  leader(shares) {
    let best = -1;
    this.names.forEach((name, n) => { if (name && (best < 0 || shares[n] > shares[best])) best = n; });
    return best;
  }

  inWords() {
    const stretches = [];
    this.shares.forEach((row, i) => {
      const name = this.names[this.leader(row)];
      if (!stretches.length || stretches.at(-1).name !== name) stretches.push({ name, from: this.starts[i] });
    });
    const said = stretches.slice(0, 8).map(({ name, from }) => `${name} from ${clock(from / 1000)}`);
    return `Likeliest pianist along the music: ${said.join(", ")}${stretches.length > 8 ? ", and more" : ""}.`;
  }
}

class Lines {
  constructor(player) {
    this.player = player;
    this.box = player.find(".lines");
    this.canvas = player.find(".lines canvas");
    this.legend = player.find(".legend");
    this.canvas.onpointerdown = (event) =>
      player.drag(event, this.canvas, (x) => player.view.start + player.toTime(x));
  }

  get height() { return this.player.big ? 104 : 92; }

  show(moments) {
    this.moments = moments;
    this.box.hidden = !moments;
    this.legend.replaceChildren();
    if (!moments) return;
    this.canvas.hidden = moments.starts.length < 2;
    this.canvas.setAttribute("aria-label", moments.inWords());
    this.values = moments.ranked.map((n) => {
      const item = made("li"), dot = made("span", "dot"), value = made("b");
      dot.style.background = this.player.colour(moments.colours[n]);
      item.append(dot, made("span", "", moments.names[n]), value);
      this.legend.append(item);
      return value;
    });
  }

  draw() {
    const { player, moments } = this;
    if (!moments || this.canvas.hidden) return;
    const width = player.stage.clientWidth, height = this.height, c = player.canvas(this.canvas, width, height);
    const low = height - 8, high = 8, toY = (share) => mix(low, high, share / 1000);
    c.textAlign = "right";
    for (const share of [0, 500, 1000]) {
      c.strokeStyle = player.line;
      c.globalAlpha = share === 500 ? 0.6 : 1;
      c.beginPath(); c.moveTo(player.gutter, Math.round(toY(share)) + 0.5); c.lineTo(width, Math.round(toY(share)) + 0.5); c.stroke();
      c.globalAlpha = 0.75;
      c.fillStyle = player.ink;
      c.fillText(`${share / 10}`, player.gutter - 5, clamp(toY(share), 8, height - 8));
    }
    c.globalAlpha = 1;
    c.textAlign = "left";
    c.save();
    c.beginPath(); c.rect(player.gutter, 0, width - player.gutter, height); c.clip();
    for (const n of [...moments.ranked].reverse()) this.line(c, n, toY, low);
    c.restore();
    this.playhead(c, width, height);
  }

  line(c, n, toY, low) {
    const { player, moments } = this, x = (ms) => player.toX(ms / 1000), first = n === moments.ranked[0];
    const points = moments.smooth
      ? [[0, moments.shares[0][n]], ...moments.middles.map((m, i) => [m, moments.shares[i][n]]), [player.length * 1000, moments.shares.at(-1)[n]]]
      : moments.shares.flatMap((row, i) => [[moments.starts[i], row[n]], [moments.starts[i + 1] ?? player.length * 1000, row[n]]]);
    c.beginPath();
    points.forEach(([ms, share], i) => (i ? c.lineTo(x(ms), toY(share)) : c.moveTo(x(ms), toY(share))));
    c.strokeStyle = player.colour(moments.colours[n]);
    c.lineWidth = (first ? 3 : 2) * (player.big ? 1.5 : 1);
    c.lineJoin = "round";
    c.stroke();
    c.lineTo(x(points.at(-1)[0]), low);
    c.lineTo(x(points[0][0]), low);
    c.globalAlpha = first ? 0.14 : 0.05;
    c.fillStyle = c.strokeStyle;
    c.fill();
    c.globalAlpha = 1;
  }

  playhead(c, width, height) {
    const { player } = this, x = player.toX(player.position);
    if (x < player.gutter - 1 || x > width + 1) return;
    c.fillStyle = player.accent;
    c.fillRect(x - 1, 0, 2, height);
  }

  follow() {
    if (!this.moments) return;
    this.draw();
    const shares = this.moments.at(this.player.position * 1000);
    this.values.forEach((value, i) => {
      const text = percent(shares[this.moments.ranked[i]]);
      if (value.textContent !== text) value.textContent = text;
    });
  }
}

// The player moved into a modal dialog that fills the screen; Esc, or leaving full screen, brings it back.
class Theatre {
  constructor(player) {
    this.player = player;
    this.dialog = player.host.querySelector(".theatre");
    this.place = player.host.querySelector(".place");
    this.show = player.find(".show");
    this.open = player.find(".raise");
    this.leave = player.find(".lower");
    this.revealed = false;
    this.open.onclick = () => this.raise();
    this.leave.onclick = () => this.lower();
    this.dialog.onclose = () => this.lower();
    this.dialog.onkeydown = (event) => {
      if (event.target === this.dialog || event.target.closest?.("dialog") === this.dialog) player.key(event);
    };
    player.find(".reveal").onclick = () => { this.revealed = true; this.drawWhole(); };
    this.outOfFull = () => { if (!document.fullscreenElement && this.isFull) this.lower(); };
  }

  close() {
    document.removeEventListener("fullscreenchange", this.outOfFull);
    if (this.player.big) this.lower();
  }

  raise() {
    const { player, dialog } = this;
    if (player.big) return;
    dialog.append(player.root);
    dialog.showModal();
    player.big = true;
    player.root.classList.add("big");
    player.root.setAttribute("part", "big");
    this.show.hidden = false;
    this.leave.hidden = false;
    this.open.hidden = true;
    player.root.focus({ preventScroll: true });
    document.addEventListener("fullscreenchange", this.outOfFull);
    // The page goes full screen under the dialog; where that is refused, the dialog alone covers the window.
    document.documentElement.requestFullscreen?.().then(() => { this.isFull = true; }, () => {});
    player.draw();
    this.follow();
  }

  lower() {
    const { player, dialog } = this;
    if (!player.big) return;
    player.big = false;
    document.removeEventListener("fullscreenchange", this.outOfFull);
    if (document.fullscreenElement && this.isFull) document.exitFullscreen().catch(() => {});
    this.isFull = false;
    player.root.classList.remove("big");
    this.place.append(player.root);
    if (dialog.open) dialog.close();
    this.show.hidden = true;
    this.leave.hidden = true;
    this.open.hidden = false;
    this.open.focus({ preventScroll: true });
    player.draw();
  }

  // Builds what follows the sound; called when data comes.
  fill(moments, verdict) {
    const { player } = this;
    this.moments = moments;
    this.verdict = verdict;
    this.open.hidden = !moments || player.big;
    if (!moments) { this.lower(); return; }
    this.bars = moments.ranked.map((n) => {
      const item = made("li"), bar = made("i"), value = made("b");
      bar.style.background = player.colour(moments.colours[n]);
      const track = made("span", "track");
      track.append(bar);
      item.append(made("span", "label", moments.names[n]), track, value);
      return { n, item, bar, value };
    });
    player.find(".bars").replaceChildren(...this.bars.map(({ item }) => item));
    this.says = Object.keys(moments.concepts).map((concept) => {
      const index = player.data.layers.findIndex((layer) => layer.name === concept);
      const card = made("button", "says-one"), name = made("span", "concept", concept), who = made("span", "heard");
      const share = made("b"), dot = made("span", "dot");
      card.type = "button";
      name.prepend(dot);
      card.append(name, who, share);
      card.title = `Show and hear the ${concept.toLowerCase()}; again for all`;
      card.disabled = index < 0;
      card.onclick = () => player.choose(player.layer === index ? 0 : index);
      dot.style.background = index < 0 ? player.line : player.colour(player.data.layers[index].colour);
      return { concept, index, card, who, share };
    });
    player.find(".says").replaceChildren(...this.says.map(({ card }) => card));
    this.drawWhole();
  }

  drawWhole() {
    const { player, verdict } = this, reveal = player.find(".reveal"), whole = player.find(".whole");
    reveal.hidden = !verdict?.truth || this.revealed;
    whole.textContent = verdict ? `Over the whole piece: ${verdict.name}, ${percent(verdict.share)}` : "";
    if (verdict?.truth && this.revealed) {
      whole.textContent += verdict.truth === verdict.name ? `. Right: ${verdict.truth} plays.` : `. In truth ${verdict.truth} plays.`;
    }
  }

  follow() {
    const { player, moments } = this;
    if (!player.big || !moments) return;
    const now = player.position * 1000, shares = moments.at(now), best = moments.leader(shares);
    const name = player.find(".who .name"), colour = player.colour(moments.colours[best]);
    const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };
    if (name.textContent !== moments.names[best]) {
      name.textContent = moments.names[best];
      name.style.setProperty("--of", colour);
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) name.animate?.([{ opacity: 0.2 }, { opacity: 1 }], { duration: 350, easing: "ease-out" });
    }
    name.style.fontSize = `${clamp(86 / Math.max(1, name.textContent.length), 3.4, 8.6)}vw`; // one line, whoever it is
    set(player.find(".sure b"), percent(shares[best]));
    set(player.find(".sure span"), this.verdict?.unlike ? "but unlike all it knows" : howSure(shares[best]));
    for (const { n, bar, value, item } of this.bars) {
      bar.style.width = `${(100 * shares[n]).toFixed(2)}%`;
      set(value, percent(shares[n]));
      item.classList.toggle("first", n === best);
    }
    for (const { concept, index, card, who, share } of this.says) {
      const alone = moments.at(now, moments.concepts[concept]), one = moments.leader(alone);
      set(who, moments.names[one]);
      set(share, percent(alone[one]));
      card.style.setProperty("--of", player.colour(moments.colours[one]));
      card.setAttribute("aria-pressed", String(player.layer === index));
      card.classList.toggle("agrees", one === best);
    }
  }
}
