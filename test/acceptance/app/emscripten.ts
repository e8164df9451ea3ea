// The page of the C program: two workers, and a channel between them.
const started = (name: string): Worker => new Worker(new URL(name, location.href), { type: "module" });
const [engine, worker] = [started("emscripten-engine.js"), started("emscripten-program.js")];
const { port1, port2 } = new MessageChannel();

function next<T>(from: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    from.addEventListener("message", ({ data }) => resolve(data as T), { once: true });
    from.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
  });
}

let last = 0;
globalThis.call = async (name, args) => {
  if (name === "open") {
    engine.postMessage({ url: new URL("disk.qcow2", location.href).href }, [port1]);
    return next(engine);
  }
  if (name === "change") {
    engine.postMessage({ change: args });
    return next(engine);
  }
  const answer = next<{ value?: number; error?: string }>(worker);
  const told = { id: ++last, name, args };
  worker.postMessage(told, name === "mount" ? [port2] : []);
  const { value, error } = await answer;
  if (error !== undefined) throw new Error(error);
  return value;
};

export {};
