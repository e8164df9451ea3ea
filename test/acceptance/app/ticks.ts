// v86 goes on by a worker of its own, which posts back what it is sent. In Firefox a worker that has another one below it may sleep for
// ever in a synchronous call, such as a file handle's (docs/BROWSER.md): there this, in the same thread, takes that worker's place.
class Ticks {
  readonly #channel = new MessageChannel();
  #timer: ReturnType<typeof setTimeout> | undefined;
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor() {
    this.#channel.port1.onmessage = ({ data }) => this.onmessage?.({ data });
  }

  postMessage({ t, tick }: { t: number; tick: unknown }): void {
    clearTimeout(this.#timer);
    const post = (): void => this.#channel.port2.postMessage(tick);
    if (t < 1) post();
    else this.#timer = setTimeout(post, t);
  }

  terminate(): void {
    clearTimeout(this.#timer);
    this.#channel.port1.close();
  }
}

if (navigator.userAgent.includes("Firefox")) Object.assign(globalThis, { Worker: Ticks });

export {};
