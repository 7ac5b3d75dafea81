// The sound that every player shares: samples of a real piano when the page has them, else a tone made here.
// The page holds the samples as an audio element of its own (st.audio in a hidden container), so they come from this
// server only, in one piece, and the browser keeps them. They are decoded once a page, whatever plays them.

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const STEP = 4; // one synthesised tone serves four neighbouring keys
const LOOK_MS = 250, LOOKS = 80;

const shelf = (window.pianistidBank ??= { samples: null, loading: null });

// Finds the bank on the page, decodes it and cuts it up; layout is [[pitch, start in s, length in s], ...].
function loadBank(layout) {
  if (shelf.samples || !layout || !layout.length) return Promise.resolve(shelf.samples);
  shelf.loading ??= findBank()
    .then((source) => fetch(source))
    .then((answer) => { if (!answer.ok) throw new Error(`the samples answered ${answer.status}`); return answer.arrayBuffer(); })
    .then((bytes) => new OfflineAudioContext(1, 1, 32000).decodeAudioData(bytes))
    .then((whole) => { shelf.samples = cut(whole, layout); return shelf.samples; })
    .catch(() => { shelf.loading = null; return null; });
  return shelf.loading;
}

// The page is drawn piece by piece, so the element may come after the player.
function findBank() {
  return new Promise((found, missing) => {
    let looks = 0;
    const look = () => {
      const element = document.querySelector(".st-key-piano_bank audio");
      if (element && (element.currentSrc || element.src)) found(element.currentSrc || element.src);
      else if (++looks > LOOKS) missing(new Error("no samples on this page"));
      else setTimeout(look, LOOK_MS);
    };
    look();
  });
}

function cut(whole, layout) {
  const all = whole.getChannelData(0), rate = whole.sampleRate;
  return layout.map(([pitch, start, length]) => {
    const from = Math.round(start * rate), part = all.subarray(from, from + Math.round(length * rate));
    const buffer = new AudioBuffer({ length: part.length, numberOfChannels: 1, sampleRate: rate });
    buffer.copyToChannel(part, 0);
    return { pitch, buffer };
  });
}

class Piano {
  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.level = this.context.createGain();
    const glue = this.context.createDynamicsCompressor();
    glue.threshold.value = -16;
    glue.ratio.value = 3;
    this.meter = this.context.createAnalyser();
    this.meter.fftSize = 1024;
    this.level.connect(glue).connect(this.meter).connect(this.context.destination);
    this.tones = new Map();
    this.voices = new Set();
  }

  // A struck string: stretched partials that die away the faster the higher they are, and a short knock.
  tone(pitch) {
    const base = Math.round(pitch / STEP) * STEP;
    if (this.tones.has(base)) return { pitch: base, buffer: this.tones.get(base), gain: 0.8 };
    const rate = 32000, f0 = 440 * 2 ** ((base - 69) / 12);
    const height = clamp((base - 21) / 87, 0, 1), seconds = 4.2 - 2.9 * height;
    const buffer = this.context.createBuffer(1, Math.ceil(rate * seconds), rate);
    const out = buffer.getChannelData(0);
    for (let n = 1; n <= 12; n++) {
      const f = n * f0 * Math.sqrt(1 + 0.0004 * n * n);
      if (f > rate * 0.42) break;
      const amplitude = (n === 1 ? 1 : 0.9) / n ** (1.25 + 0.5 * height);
      const decay = (2.6 * (1 - height) ** 1.3 + 0.28) / (1 + 0.32 * (n - 1));
      const turn = 2 * Math.cos((2 * Math.PI * f) / rate);
      const shrink = Math.exp(-1 / (rate * decay));
      let previous = -Math.sin((2 * Math.PI * f) / rate), current = 0, gain = amplitude;
      for (let i = 0; i < out.length; i++) {
        out[i] += gain * current;
        const next = turn * current - previous;
        previous = current;
        current = next;
        gain *= shrink;
      }
    }
    let seed = base;
    for (let i = 0; i < rate * 0.025; i++) {
      seed = (seed * 16807) % 2147483647;
      out[i] += 0.22 * (seed / 1073741824 - 1) * Math.exp(-i / (rate * 0.006));
    }
    const attack = rate * 0.002, tail = rate * 0.05;
    for (let i = 0; i < attack; i++) out[i] *= i / attack;
    for (let i = 0; i < tail; i++) out[out.length - 1 - i] *= i / tail;
    this.tones.set(base, buffer);
    return { pitch: base, buffer, gain: 0.8 };
  }

  sample(pitch) {
    if (!shelf.samples) return this.tone(pitch);
    let nearest = shelf.samples[0];
    for (const one of shelf.samples) if (Math.abs(one.pitch - pitch) < Math.abs(nearest.pitch - pitch)) nearest = one;
    return { ...nearest, gain: 1.3 };
  }

  // Sounds from `when`; without a length until its release. Soft notes are darker as well as softer.
  strike(pitch, velocity, when, seconds = null) {
    const { pitch: base, buffer, gain: loudest } = this.sample(pitch);
    const force = clamp(velocity / 127, 0, 1), start = Math.max(when, this.context.currentTime);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.playbackRate.value = 2 ** ((pitch - base) / 12);
    const bright = this.context.createBiquadFilter();
    bright.type = "lowpass";
    bright.Q.value = 0.3;
    bright.frequency.value = clamp(440 * 2 ** ((pitch - 69) / 12) * (1.5 + 16 * force ** 1.7) + 500 * force, 500, 15000);
    const gain = this.context.createGain();
    gain.gain.setValueAtTime(loudest * force ** 1.6, start);
    const place = this.context.createStereoPanner(); // as the player of the piano hears it: the bass on the left
    place.pan.value = clamp((pitch - 64) / 90, -0.4, 0.4);
    source.connect(bright).connect(gain).connect(place).connect(this.level);
    source.start(start);
    this.voices.add(source);
    source.onended = () => { this.voices.delete(source); place.disconnect(); };
    const damp = pitch > 88 ? 0.5 : 0.07 + 0.05 * clamp((72 - pitch) / 51, 0, 1); // the highest strings have no damper
    const release = (at) => {
      gain.gain.setTargetAtTime(0, at, damp);
      source.stop(at + damp * 8);
    };
    if (seconds !== null) release(start + Math.max(0.06, seconds));
    return () => release(this.context.currentTime);
  }

  // How loud it is now, 0 to 1: the largest of the latest samples that went to the loudspeaker.
  loudness() {
    const latest = new Float32Array(this.meter.fftSize);
    this.meter.getFloatTimeDomainData(latest);
    return latest.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  }

  hush() {
    for (const voice of this.voices) { try { voice.stop(); } catch { /* it has ended already */ } }
    this.voices.clear();
  }
}
