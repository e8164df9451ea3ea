// Serves the page of the acceptance tests, its worker, v86 and the firmware, and takes what the page uploads.
import { type Server, createServer } from "node:http";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "../../support/root.ts";
import { buildFolder, firmware } from "../../support/v86/node.ts";

const app = join(root, "test", "acceptance", "app");

async function bundle(name: string): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [join(app, name)],
    bundle: true,
    write: false,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "chrome120",
    // v86 is served as it is: what it asks of Node confuses a bundler.
    alias: { v86: "/libv86.mjs" },
    // What must be there before v86 is loaded is a module of its own.
    external: ["/libv86.mjs", "./ticks.ts"],
    logLevel: "error",
  });
  return outputFiles[0]!.contents;
}

function html(script: string): Uint8Array {
  const page = `<!doctype html><title>test</title><script type="module" src="/${script}"></script>`;
  return new TextEncoder().encode(page);
}

/** The server of the page. It stays up when that of the disk is down. */
export class AppServer {
  /** Served by path. */
  readonly files = new Map<string, Uint8Array>();
  #upload: Uint8Array | undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const path = (request.url ?? "/").replace(/\?.*/, "");
      if (request.method === "POST") {
        const chunks: Uint8Array[] = [];
        request.on("data", (chunk: Uint8Array) => chunks.push(chunk));
        request.on("end", () => {
          this.#upload = new Uint8Array(Buffer.concat(chunks));
          response.writeHead(204).end();
        });
        return;
      }
      const file = this.files.get(path);
      const type = /\.(m?js|ts)$/.test(path)
        ? "text/javascript"
        : path.endsWith(".wasm")
          ? "application/wasm"
          : "text/html";
      if (file) response.writeHead(200, { "Content-Type": type, "Cache-Control": "no-store" }).end(file);
      else response.writeHead(404).end();
    });
  }

  static async start(): Promise<AppServer> {
    const server = new AppServer();
    const { files } = server;
    files.set("/", html("page.js"));
    files.set("/remote.html", html("remote.js"));
    const programs = ["page", "worker", "remote", "engine", "bench"];
    await Promise.all(programs.map(async (name) => files.set(`/${name}.js`, await bundle(`${name}.ts`))));
    files.set("/ticks.ts", await bundle("ticks.ts"));
    files.set("/libv86.mjs", readFileSync(join(buildFolder("v86"), "libv86.mjs")));
    files.set("/v86.wasm", readFileSync(join(buildFolder("v86"), "v86.wasm")));
    files.set("/bios.bin", readFileSync(firmware.bios));
    files.set("/vgabios.bin", readFileSync(firmware.vga));
    await new Promise<void>((resolve) => {
      server.#server.listen(0, "127.0.0.1", resolve);
    });
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What the page has uploaded last; forgets it. */
  take(): Uint8Array {
    const bytes = this.#upload;
    if (!bytes) throw new Error("nothing was uploaded");
    this.#upload = undefined;
    return bytes;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
