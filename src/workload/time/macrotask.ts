/**
 * A task of its own: what virtual time needs of the platform, so that all microtasks have run before the next thing happens. No
 * clock is in it, hence it is no part of the Host.
 */

/** Resolves in a task of its own, when all microtasks have run. */
export function macrotask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else onMessage(resolve);
  });
}

/** One channel for all of a page's tasks: they come in their order. */
let channel: { port: MessagePort; waiting: (() => void)[] } | undefined;

function onMessage(resolve: () => void): void {
  channel ??= openChannel();
  channel.waiting.push(resolve);
  channel.port.postMessage(0);
}

function openChannel(): { port: MessagePort; waiting: (() => void)[] } {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return { port: port2, waiting };
}
