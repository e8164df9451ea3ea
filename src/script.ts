/**
 * The browser entry for pages without modules: `<script src="…/build/script.js"></script>` sets the global `Blockwright`. The script is
 * small and fetches the entry beside it. What of the entry answers later anyway can be called at once; all of it is there when
 * `Blockwright.ready` has resolved.
 *
 * Workers must come from the page's own origin. Where the script does not (a CDN), the library's workers are started from a Blob that
 * imports theirs, which a content security policy must allow (`worker-src blob:`). Source: HTML, "run a worker".
 */
import type * as Entry from "./browser.ts";

/** The names that can be called before all is there. */
const EARLY = [
  "openGuestDisk",
  "connectWorker",
  "openNode",
  "createImage",
  "removeImage",
  "probe",
  "check",
  "importImage",
  "listImages",
  "fromBlob",
] as const;

type Early = (typeof EARLY)[number];

/** The global. */
export type BlockwrightScript = Pick<typeof Entry, Early> &
  Partial<Omit<typeof Entry, Early>> & {
    /** Resolves with all that `blockwright/browser` has, which `Blockwright` has itself then. */
    readonly ready: Promise<typeof Entry>;
  };

declare global {
  /** Set by build/script.js. */
  var Blockwright: BlockwrightScript;
}

const { currentScript } = document;
const own = new URL(currentScript instanceof HTMLScriptElement ? currentScript.src : "", location.href);

/** Starts a worker of the library's. */
function startWorker(name: string): Worker {
  const { href, origin } = new URL(name, own);
  const options = { type: "module", name: "blockwright" } as const;
  if (origin === location.origin) return new Worker(href, options);
  const script = URL.createObjectURL(
    new Blob([`import ${JSON.stringify(href)};`], { type: "text/javascript" }),
  );
  const worker = new Worker(script, options);
  // Not before the script was fetched; what it then imports needs no address of the Blob's.
  worker.addEventListener("message", () => URL.revokeObjectURL(script), { once: true });
  return worker;
}

async function load(): Promise<typeof Entry> {
  // By its whole address: a script of another host has none of its own that a relative one could follow.
  const entry = (await import(new URL("browser.js", own).href)) as typeof Entry;
  const whole: typeof Entry = {
    ...entry,
    openGuestDisk: (options) =>
      entry.openGuestDisk({ createWorker: () => startWorker("guest-worker.js"), ...options }),
    connectWorker: (target, options) =>
      entry.connectWorker(target, { createWorker: () => startWorker("worker.js"), ...options }),
  };
  Object.assign(globalThis.Blockwright, whole);
  return whole;
}

const ready = load();
// Heard by whoever calls anything.
ready.catch(() => undefined);
const early = Object.fromEntries(
  EARLY.map((name) => [
    name,
    async (...given: unknown[]) => ((await ready)[name] as (...all: unknown[]) => unknown)(...given),
  ]),
);
globalThis.Blockwright = { ready, ...early } as unknown as BlockwrightScript;
