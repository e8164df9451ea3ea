/**
 * The network that can be cut: the demo's server plays it, or in the build of files alone a service worker. Both answer at the
 * same address, so the page knows no difference.
 */

/** Cuts the connections of the disk, or mends them. */
export async function setCut(isCut: boolean): Promise<void> {
  await fetch(`network?state=${isCut ? "cut" : "mended"}`, { method: "POST" });
}

/** Whether an earlier page has left it cut. */
export async function askCut(): Promise<boolean> {
  const answer = await fetch("network", { cache: "no-store" });
  return ((await answer.json()) as { isCut: boolean }).isCut;
}

/** In the build of files alone: waits until the service worker sees what the page and its worker fetch. */
export async function underServiceWorker(): Promise<void> {
  const script = document.documentElement.dataset["serviceWorker"];
  if (script === undefined) return;
  if (!("serviceWorker" in navigator))
    throw new Error("this browser gives the page no service worker (it needs HTTPS, and no private window)");
  const { serviceWorker } = navigator;
  const controlled = new Promise<void>((resolve) => {
    if (serviceWorker.controller) resolve();
    serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
  });
  await serviceWorker.register(script);
  await controlled;
}
