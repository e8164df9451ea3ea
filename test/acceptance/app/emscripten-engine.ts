// The worker with the engine: a qcow2 overlay in OPFS over a qcow2 image on a server, served to a C program in another worker.
import { createEngine, createImage, openNode } from "blockwright/browser";
import { type FilePort, serveFile } from "blockwright/emscripten";

const file = { driver: "opfs", filename: "program.qcow2" } as const;
const size = 8 * 1024 ** 3;

addEventListener("message", ({ data, ports }: MessageEvent<{ url: string }>) => {
  const serve = async (): Promise<void> => {
    const engine = createEngine();
    await createImage({ driver: "qcow2", file, size }, { engine }).catch((error: { code?: string }) => {
      if (error.code !== "EEXIST") throw error;
    });
    const backing = { driver: "qcow2", "read-only": true, file: { driver: "http", url: data.url } } as const;
    serveFile(await openNode({ driver: "qcow2", file, backing }, { engine }), ports[0] as FilePort);
  };
  serve().then(
    () => postMessage("ready"),
    (error: unknown) => postMessage(String(error)),
  );
});
