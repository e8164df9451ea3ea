/**
 * A disk map as a picture that needs nothing else: a bitmap of one pixel for each part and interval, in a data URL. Source: the layout of
 * BMP files with a palette of 256 colours.
 */
import { toBase64 } from "../stats/zlib.ts";

const [HEAD, PALETTE] = [54, 256 * 4] as const;

/** From the page's ground to a colour, by the root of the share: little is seen, too. */
function palette([red, green, blue]: readonly [number, number, number]): Uint8Array {
  const bytes = new Uint8Array(PALETTE);
  for (let i = 0; i < 256; i++) {
    const share = i === 0 ? 0 : 0.15 + (0.85 * i) / 255;
    const mixed = (colour: number): number => Math.round(238 + (colour - 238) * share);
    bytes.set([mixed(blue), mixed(green), mixed(red), 0], i * 4);
  }
  return bytes;
}

/** A picture whose columns are `rows` (intervals) and whose lines are their members (parts), the first at the bottom. */
function bitmap(rows: readonly (readonly number[])[], colour: readonly [number, number, number]): Uint8Array {
  const [width, height] = [rows.length, rows[0]!.length];
  const stride = Math.ceil(width / 4) * 4;
  const bytes = new Uint8Array(HEAD + PALETTE + stride * height);
  const view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  const head: readonly [at: number, value: number][] = [
    [2, bytes.length],
    [10, HEAD + PALETTE],
    [14, 40],
    [18, width],
    [22, height],
    [26, 1 | (8 << 16)],
    [34, stride * height],
    [46, 256],
  ];
  for (const [at, value] of head) view.setUint32(at, value, true);
  bytes.set(palette(colour), HEAD);
  const most = Math.max(1, ...rows.flat());
  for (const [x, row] of rows.entries())
    for (const [y, value] of row.entries())
      bytes[HEAD + PALETTE + y * stride + x] =
        value === 0 ? 0 : Math.max(1, Math.round(255 * Math.sqrt(value / most)));
  return bytes;
}

/** The picture in HTML; empty where nothing happened. */
export function mapPicture(
  rows: readonly (readonly number[])[],
  { title, colour }: { title: string; colour: readonly [number, number, number] },
): string {
  if (!rows.some((row) => row.some((value) => value > 0))) return "";
  const data = toBase64(bitmap(rows, colour));
  return `<figure><figcaption>${title}</figcaption><img class="map" alt="${title}" src="data:image/bmp;base64,${data}"></figure>`;
}
