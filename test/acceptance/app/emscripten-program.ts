// The worker of the C program: mounts the disk, and runs what it is told by name.
import { type EmscriptenFS, type FilePort, mountDisks } from "blockwright/emscripten";

interface Program {
  FS: EmscriptenFS;
  HEAPU8: Uint8Array;
  [name: `_${string}`]: (...args: number[]) => number;
}

let program: Program | undefined;

addEventListener("message", ({ data, ports }: MessageEvent<{ id: number; name: string; args: number[] }>) => {
  const run = async (): Promise<number> => {
    if (data.name === "heap") return program!.HEAPU8.byteLength;
    if (data.name !== "mount") return program![`_${data.name}`]!(...data.args);
    const address = new URL("program.js", location.href).href;
    const { default: make } = (await import(address)) as { default: () => Promise<Program> };
    program = await make();
    mountDisks(program.FS, "/disks", { "disk.img": ports[0] as FilePort });
    return program["_begin"]!();
  };
  run().then(
    (value) => postMessage({ id: data.id, value }),
    (error: unknown) => postMessage({ id: data.id, error: String(error) }),
  );
});
