/* The voices as one figure: the assistant is the body in the middle, the visitor the ring around it. */

const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
const POINTS = 72; // of an outline
const WAVES = [[2, 0.9], [3, -1.3], [5, 1.7]]; // how often a wave goes round, and how quickly it moves
const LAYERS = [[1.3, 0.13, 1.8], [1.14, 0.2, 1.3]]; // size, opacity and unrest of what surrounds the body
const LIGHTS = [["255 255 255", 0.75, 0.9, 3.6], ["255 255 255", 0.5, -1.3, 5], ["0 0 0", 0.35, 0.7, 0.6]]; // colour, opacity, speed, place

/** How loud a LiveKit track is, from 0 to 1, measured in the browser. */
export class Loudness {
  static context = null; // one for the page; browsers let it run after a visitor has pressed something

  constructor(track) {
    const Context = window.AudioContext || window.webkitAudioContext;
    if (!Context || !track?.mediaStreamTrack) return;
    try {
      const context = (Loudness.context ??= new Context());
      context.resume().catch(() => {});
      this.source = context.createMediaStreamSource(new MediaStream([track.mediaStreamTrack]));
      this.analyser = context.createAnalyser();
      this.analyser.fftSize = 512;
      this.source.connect(this.analyser);
      this.samples = new Float32Array(this.analyser.fftSize);
    } catch (error) {
      console.info(`Loudness cannot be measured: ${error.message}`);
    }
  }

  get now() {
    if (!this.samples) return 0;
    this.analyser.getFloatTimeDomainData(this.samples);
    const mean = this.samples.reduce((sum, each) => sum + each * each, 0) / this.samples.length;
    return Math.min(1, Math.sqrt(mean) ** 0.7 * 2.4); // quiet speech is to be seen as well
  }

  stop() {
    this.source?.disconnect();
  }
}

export class Visual {
  /** `loudness()` returns { assistant, me }, each from 0 to 1, and null for a microphone that is off. */
  constructor(canvas, loudness) {
    Object.assign(this, { canvas, loudness, state: "rest", assistant: 0, me: 0, unrest: 0, turn: 0 });
    this.pen = canvas.getContext?.("2d");
    if (!this.pen) return;
    STILL.addEventListener("change", () => this.refresh());
    window.addEventListener("theme", () => this.refresh());
    new ResizeObserver(() => this.refresh()).observe(canvas);
  }

  /** One of rest, connecting, listening, thinking, speaking. */
  show(state) {
    this.state = state;
    this.refresh();
  }

  refresh() {
    if (!this.pen) return;
    const style = getComputedStyle(this.canvas);
    Object.assign(this, { ink: style.color, soft: style.borderTopColor, forced: style.getPropertyValue("--forced").trim() });
    const size = this.canvas.clientWidth * Math.min(3, window.devicePixelRatio || 1);
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    cancelAnimationFrame(this.frame);
    this.before = performance.now();
    this.#step(this.before);
  }

  #step(time) {
    const passed = Math.min(100, time - this.before) / 1_000;
    this.before = time;
    const still = STILL.matches;
    const now = still ? { assistant: 0, me: this.loudness().me === null ? null : 0 } : this.loudness();
    // Voices rise quickly and fall slowly; a change of state takes a third of a second.
    const towards = (value, to, quick, slow) => value + (to - value) * Math.min(1, passed * (to > value ? quick : slow));
    this.assistant = towards(this.assistant, now.assistant, 25, 8);
    this.me = towards(this.me, now.me ?? 0, 25, 8);
    const unrest = { rest: 0.35, connecting: 0.3, listening: 0.3, thinking: 0.6, speaking: 1 }[this.state];
    this.unrest = still ? unrest : towards(this.unrest, unrest, 4, 4);
    this.turn += passed * (0.4 + this.unrest * 0.8 + this.assistant * 1.6);
    this.#draw(now.me !== null, still ? 0 : time / 1_000);
    if (!still) this.frame = requestAnimationFrame((next) => this.#step(next));
  }

  #draw(hears, seconds) {
    const { pen, canvas } = this;
    const middle = canvas.width / 2;
    if (!middle) return;
    const busy = this.state === "thinking" || this.state === "connecting";
    const breath = busy ? 0.88 + 0.04 * Math.sin(seconds * 3) : 1 + 0.025 * Math.sin(seconds * 1.3);
    const radius = middle * 0.5 * breath * (1 + this.assistant * 0.16);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = pen.strokeStyle = this.ink;
    const swell = 0.016 + 0.024 * this.unrest + 0.12 * this.assistant;
    for (const [size, opacity, more] of LAYERS) {
      pen.globalAlpha = opacity * (0.55 + 0.45 * this.unrest);
      this.#outline(middle, radius * (1 + (size - 1) * (0.6 + 1.2 * this.assistant)), swell * more, this.turn + size * 4);
      pen.fill();
    }
    pen.globalAlpha = 1;
    this.#outline(middle, radius, swell, this.turn);
    pen.fill();
    if (!this.forced) this.#lights(middle, radius);
    this.#ring(middle, hears, busy, seconds);
    pen.globalAlpha = 1;
  }

  #outline(middle, radius, swell, turn) {
    const { pen } = this;
    pen.beginPath();
    for (let point = 0; point <= POINTS; point++) {
      const angle = (point / POINTS) * 2 * Math.PI;
      const wave = WAVES.reduce((sum, [often, speed]) => sum + Math.sin(often * angle + speed * turn) / often, 0);
      const far = radius * (1 + swell * wave);
      pen.lineTo(middle + far * Math.cos(angle), middle + far * Math.sin(angle));
    }
    pen.closePath();
  }

  // Lights that wander inside the body, whose outline is still the path.
  #lights(middle, radius) {
    const { pen } = this;
    pen.save();
    pen.clip();
    pen.globalCompositeOperation = "overlay"; // lights take the body's colour
    for (const [colour, opacity, speed, place] of LIGHTS) {
      const angle = place + this.turn * speed;
      const [x, y] = [middle + radius * 0.55 * Math.cos(angle), middle + radius * 0.55 * Math.sin(angle)];
      const light = pen.createRadialGradient(x, y, 0, x, y, radius * 1.05);
      light.addColorStop(0, `rgb(${colour} / ${opacity})`);
      light.addColorStop(1, `rgb(${colour} / 0)`);
      pen.fillStyle = light;
      pen.fillRect(middle - radius * 2, middle - radius * 2, radius * 4, radius * 4);
    }
    pen.restore();
  }

  #ring(middle, hears, busy, seconds) {
    const { pen } = this;
    const radius = middle * 0.82;
    pen.lineWidth = Math.max(1.5, middle * 0.022);
    pen.lineCap = "round";
    if (busy) {
      pen.globalAlpha = 0.9;
      const from = seconds * 3.2;
      pen.beginPath();
      pen.arc(middle, middle, radius, from, from + 1.4);
      pen.stroke();
    } else if (hears) {
      pen.strokeStyle = this.soft;
      pen.globalAlpha = 0.55 + 0.45 * this.me;
      pen.lineWidth *= 1 + 1.4 * this.me;
      this.#outline(middle, radius * (1 + 0.05 * this.me), 0.1 * this.me, seconds * 5);
      pen.stroke();
    }
  }
}
