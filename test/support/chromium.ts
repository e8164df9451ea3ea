// The Chromium that tests run in: which one, and how it is kept from the network and from this machine's display.

/** Its path. */
export const CHROMIUM = process.env["BLOCKWRIGHT_CHROMIUM"] ?? "/usr/bin/chromium";

/** Its arguments, whoever starts it. */
export const CHROMIUM_ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-default-apps",
  "--disable-dev-shm-usage",
  "--disable-domain-reliability",
  "--disable-sync",
  "--metrics-recording-only",
  "--no-first-run",
];
