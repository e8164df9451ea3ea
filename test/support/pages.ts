// Chromium for a test's pages: headless, one flag list for all, and patient.
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
  chromium,
} from "playwright";
import { CHROMIUM, CHROMIUM_ARGUMENTS } from "./chromium.ts";
import { HANG_MS } from "./until.ts";

/** Starts it; the caller closes it. */
export function startChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGUMENTS, timeout: HANG_MS });
}

/** A page of a context of its own, or of another's; it waits as long as a busy machine needs. */
export async function newPage(
  place: Browser | BrowserContext,
  options: BrowserContextOptions = {},
): Promise<Page> {
  const page = "contexts" in place ? await place.newPage(options) : await place.newPage();
  page.setDefaultTimeout(HANG_MS);
  return page;
}
