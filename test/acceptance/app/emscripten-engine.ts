// The worker with the engine: a qcow2 overlay in OPFS over a qcow2 image on a server, served to a C program in another worker.
import { type Node, check, createEngine, createImage, openNode } from "blockwright/browser";
import { type FilePort, serveFile } from "blockwright/emscripten";

const file = { driver: "opfs", filename: "program.qcow2", durability: "interval" } as const;
const size = 8 * 1024 ** 3;

let disk: Node | undefined;

addEventListener("message", ({ data, ports }: MessageEvent<{ url: string; change?: [number, number] }>) => {
  const change = ([offset, value]: [number, number]): Promise<void> =>
    disk!.write(offset, new Uint8Array(4096).fill(value));
  const serve = async (): Promise<void> => {
    const engine = createEngine();
    await createImage({ driver: "qcow2", file, size }, { engine }).catch((error: { code?: string }) => {
      if (error.code !== "EEXIST") throw error;
    });
    const { corruptions } = await check({ driver: "qcow2", file }, { engine });
    if (corruptions > 0) throw new Error(`the overlay has ${corruptions} corruptions`);
    const backing = { driver: "qcow2", "read-only": true, file: { driver: "http", url: data.url } } as const;
    disk = await openNode({ driver: "qcow2", file, backing }, { engine });
    serveFile(disk, ports[0] as FilePort);
  };
  (data.change ? change(data.change) : serve()).then(
    () => postMessage("ready"),
    (error: unknown) => postMessage(String(error)),
  );
});
