// The browser is killed, with all its processes, while a job fills the overlay and the guest writes to it, again and
// again over one disk: it opens again, no cluster is torn, and no write that the guest was told of is lost.
import { expect } from "vitest";
import { HANG_MS } from "../../support/until.ts";
import { guestPattern } from "../../support/v86/monitor-guest.ts";
import { Bench, MiB, compareWithQemu, diskImage } from "../support/bench.ts";
import { Browser, type EngineName, type Tab } from "../support/browser.ts";

const SIZE = 8 * MiB;
/** The guest writes runs of this many sectors, at places that lie across the disk. */
const COUNT = 24;
const PLACES = 40;
/** How long a browser may take to load the page, ms, and how often it is started for that. */
const START_MS = HANG_MS / 3;
const STARTS = 3;

/** What may be at a place: the last write that was answered, and those that were begun after it. */
interface Place {
  answered: number | undefined;
  begun: number[];
}

const places: Place[] = Array.from({ length: PLACES }, () => ({ answered: undefined, begun: [] }));

function lbaOf(place: number): number {
  // Sector 0 is the boot sector; the runs cross the borders of 64 KiB clusters here and there.
  return 56 + place * 400;
}

/** How the guest's writes go on. */
interface Writing {
  /** A write was answered. */
  onAnswer(): void;
  /** Whether the browser is being killed: whatever fails before is a fault. */
  isOver(): boolean;
}

/** Lets the guest write until the browser dies. Rejects with what fails before. */
async function writeUntilDeath(tab: Tab, firstSeed: number, { onAnswer, isOver }: Writing): Promise<void> {
  for (let i = 0; ; i++) {
    const seed = firstSeed + i;
    const index = (seed * 7) % PLACES;
    const place = places[index]!;
    place.begun.push(seed);
    const answer = await tab.call("guestWrite", lbaOf(index), seed, COUNT).catch((error: unknown) => {
      if (!isOver()) throw error;
    });
    if (!answer) return;
    expect(answer.status).toBe(0);
    place.answered = seed;
    place.begun = [];
    onAnswer();
  }
}

/** Checks what the disk holds, sector by sector, and takes it for what is known from here on. */
function judge(content: Uint8Array, image: Uint8Array): void {
  const checked = image.slice();
  for (const [index, { answered, begun }] of places.entries()) {
    const start = lbaOf(index) * 512;
    const old = answered === undefined ? image.subarray(start) : guestPattern(answered, COUNT * 512);
    const candidates = [old, ...begun.map((seed) => guestPattern(seed, COUNT * 512))];
    for (let at = 0; at < COUNT * 512; at += 512) {
      const sector = Buffer.from(content.subarray(start + at, start + at + 512));
      const known = candidates.some((bytes) => sector.equals(bytes.subarray(at, at + 512)));
      if (!known) throw new Error(`place ${index}, byte ${at}: none of ${answered} and ${begun.join(", ")}`);
      checked.set(sector, start + at);
    }
  }
  expect(Buffer.from(content).equals(checked)).toBe(true);
}

/** Opens the page. A browser that was killed may hang at its next start, before it has loaded anything: it is killed once more. */
async function openAgain(bench: Bench): Promise<Tab> {
  for (let tries = 1; ; tries++) {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), START_MS);
    });
    const opening = bench.tab();
    const tab = await Promise.race([opening, late]).finally(() => clearTimeout(timer));
    if (tab) return tab;
    if (tries === STARTS) throw new Error(`${STARTS} times the browser has not loaded the page`);
    opening.catch(() => undefined);
    await bench.browser.kill();
    bench.browser = await Browser.start(bench.profile);
  }
}

/** Kills in the middle of a fill and of the guest's writes. */
export async function kills(engine: EngineName, times: number): Promise<void> {
  const image = diskImage(SIZE);
  await using bench = await Bench.start(image, engine);
  let answered = 0;
  let filled = 0;
  for (let round = 0; round <= times; round++) {
    const tab = await openAgain(bench);
    if (round === 0) await tab.call("create", bench.base);
    const complete = await tab.call("open", bench.base);
    const content = await tab.content(bench.app, "disk");
    judge(content, image);
    if (round === times) {
      compareWithQemu(await tab.content(bench.app, "file"), content, { base: image, mayLeak: true });
      break;
    }
    await tab.call("boot", {});
    if (!complete) await tab.call("fill", { speed: 64 * 1024, onError: "stop" });
    let isOver = false;
    let writing = Promise.resolve();
    const begun = new Promise<void>((resolve) => {
      const onAnswer = (): void => {
        answered += 1;
        resolve();
      };
      writing = writeUntilDeath(tab, 1000 * (round + 1), { onAnswer, isOver: () => isOver });
    });
    await Promise.race([begun, writing]);
    // Somewhere in a later one.
    const later = new Promise((resolve) => setTimeout(resolve, 100 + ((round * 137) % 400)));
    await Promise.race([later, writing]);
    filled = Math.max(filled, (await tab.call("state")).job?.offset ?? 0);
    isOver = true;
    await bench.browser.kill();
    await writing;
    bench.browser = await Browser.start(bench.profile);
  }
  expect(answered).toBeGreaterThanOrEqual(times);
  expect(filled).toBeGreaterThan(0);
}
