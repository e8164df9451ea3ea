// A program that begins a thread of decoders, of the system's library, and ends after so many milliseconds: MS.
import { DecodeThread } from "../../src/platform/node/decode-thread.ts";

const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
const none = (): void => undefined;
for (let count = 0; count < 4; count++)
  new DecodeThread(memory, true, { ready: none, done: none, ended: none });
setTimeout(() => process.exit(0), Number(process.argv[2]));
