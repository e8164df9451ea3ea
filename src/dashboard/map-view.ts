/**
 * The map on its canvas. Only changed cells are painted: large ones as rectangles that flash when they change, small ones as
 * pixels of an image that is put up in one go. It paints in animation frames, and none while nothing changes.
 */
import { type MapModel, states } from "./map-model.ts";

type Colour = readonly [red: number, green: number, blue: number];

/** Of each state, in the order of `states`, where the page has none (style.css has them, light and dark). */
const COLOURS: readonly Colour[] = [
  [35, 46, 74],
  [72, 88, 122],
  [38, 196, 170],
  [247, 184, 75],
  [125, 190, 255],
  [255, 92, 122],
];
const GROUND: Colour = [13, 19, 38];

/** A colour of the page's style, `#rrggbb`. */
function colourOf(name: string, otherwise: Colour): Colour {
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const parts = /^#(..)(..)(..)$/
    .exec(value)
    ?.slice(1)
    .map((part) => Number.parseInt(part, 16));
  return parts ? (parts as unknown as Colour) : otherwise;
}

const FLASH_MS = 450;
/** Cells of at least so many pixels are rectangles. */
const RECTANGLE = 4;

/** The view. */
export class MapView {
  /** Milliseconds that the last paints took, newest last. */
  readonly costs: number[] = [];
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #calm: MediaQueryList;
  readonly #flashes = new Map<number, number>();
  #model: MapModel;
  #colours = COLOURS;
  #image: ImageData | undefined;
  #cell = 1;
  #columns = 1;
  #frame = 0;

  constructor(canvas: HTMLCanvasElement, model: MapModel) {
    this.#canvas = canvas;
    this.#model = model;
    this.#context = canvas.getContext("2d", { alpha: false })!;
    this.#calm = matchMedia("(prefers-reduced-motion: reduce)");
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.#layOut());
    new ResizeObserver(() => this.#layOut()).observe(canvas.parentElement!);
    this.#layOut();
  }

  /** Shows another disk. */
  show(model: MapModel): void {
    this.#model = model;
    this.#layOut();
  }

  /** Something may have changed. */
  wake(): void {
    if (this.#frame === 0) this.#frame = requestAnimationFrame((now) => this.#paint(now));
  }

  #layOut(): void {
    const scale = devicePixelRatio;
    const parent = this.#canvas.parentElement!;
    const { paddingLeft, paddingRight } = getComputedStyle(parent);
    const padding = Number.parseFloat(paddingLeft) + Number.parseFloat(paddingRight);
    const width = Math.max(1, Math.floor((parent.clientWidth - padding) * scale));
    const room = width * Math.max(260, Math.min(380, innerHeight * 0.4)) * scale;
    this.#cell = Math.max(1, Math.floor(Math.sqrt(room / this.#model.clusters)));
    this.#columns = Math.max(1, Math.floor(width / this.#cell));
    const rows = Math.ceil(this.#model.clusters / this.#columns);
    const [paintedWidth, height] = [this.#columns * this.#cell, rows * this.#cell];
    Object.assign(this.#canvas, { width: paintedWidth, height });
    Object.assign(this.#canvas.style, { width: `${paintedWidth / scale}px`, height: `${height / scale}px` });
    this.#colours = states.map((state, at) => colourOf(state, COLOURS[at]!));
    this.#context.fillStyle = `rgb(${colourOf("map", GROUND).join(",")})`;
    this.#context.fillRect(0, 0, paintedWidth, height);
    this.#image = this.#cell < RECTANGLE ? this.#context.createImageData(paintedWidth, height) : undefined;
    this.#flashes.clear();
    this.#model.changeAll();
    this.wake();
  }

  #paint(now: number): void {
    this.#frame = 0;
    const started = performance.now();
    const changed = this.#image ? this.#paintPixels(this.#image) : this.#paintCells(now);
    if (changed > 0) {
      this.costs.push(performance.now() - started);
      if (this.costs.length > 600) this.costs.shift();
    }
    if (this.#flashes.size > 0) this.wake();
  }

  #paintPixels(image: ImageData): number {
    const words = new Uint32Array(image.data.buffer);
    const [cell, columns, width] = [this.#cell, this.#columns, image.width];
    let [top, bottom] = [Number.POSITIVE_INFINITY, 0];
    const count = this.#model.takeChanges((cluster, state) => {
      const [red, green, blue] = this.#colours[state]!;
      const word = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
      const y = Math.floor(cluster / columns) * cell;
      const x = (cluster % columns) * cell;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + cell);
      for (let row = y; row < y + cell; row++) words.fill(word, row * width + x, row * width + x + cell);
    });
    if (count > 0) this.#context.putImageData(image, 0, 0, 0, top, width, bottom - top);
    return count;
  }

  #paintCells(now: number): number {
    const isCalm = this.#calm.matches;
    const count = this.#model.takeChanges((cluster, state) => {
      this.#cellAt(cluster, state, 0);
      if (!isCalm && state !== 0) this.#flashes.set(cluster, now);
    });
    for (const [cluster, since] of this.#flashes) {
      const glow = 1 - (now - since) / FLASH_MS;
      if (glow <= 0) this.#flashes.delete(cluster);
      this.#cellAt(cluster, this.#model.shown[cluster]!, Math.max(0, glow));
    }
    return count + this.#flashes.size;
  }

  #cellAt(cluster: number, state: number, glow: number): void {
    const [red, green, blue] = this.#colours[state]!.map((part) =>
      Math.round(part + (255 - part) * glow * 0.7),
    );
    const x = (cluster % this.#columns) * this.#cell;
    const y = Math.floor(cluster / this.#columns) * this.#cell;
    const gap = this.#cell > 8 ? 2 : 1;
    this.#context.fillStyle = `rgb(${red},${green},${blue})`;
    this.#context.fillRect(x, y, this.#cell - gap, this.#cell - gap);
  }
}
