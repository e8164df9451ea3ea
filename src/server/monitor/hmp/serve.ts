/**
 * Joins the human monitor to a connection: greeting, prompt, lines that are shown as they are typed, answers.
 */
import type { HostConnection } from "../../../base/host.ts";
import { onAbort } from "../../../base/signals.ts";
import { LineEditor } from "./readline.ts";

const PROMPT = "(qemu) ";

/** How a human monitor is served. */
export interface HmpService {
  readonly version: string;
  /** Carries out a line; resolves with what is told. */
  readonly run: (line: string) => Promise<string>;
  /** The machine ends: nobody is asked for another line. */
  readonly isOver: () => boolean;
  readonly signal: AbortSignal;
}

/** Serves one client until it or the service ends. Never rejects. */
export async function serveHmp(connection: HostConnection, service: HmpService): Promise<void> {
  const { signal } = service;
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  const write = async (text: string): Promise<void> => connection.write(encoder.encode(text));
  const editor = new LineEditor();
  const close = (): void => void connection.close().catch(() => undefined);
  const forget = onAbort(signal, close);
  try {
    await write(`QEMU ${service.version} monitor - type 'help' for more information\r\n${PROMPT}`);
    if (signal.aborted) close();
    for await (const bytes of connection.incoming) {
      if (signal.aborted) break;
      for (const char of decoder.decode(bytes, { stream: true })) {
        const { output, line } = editor.type(char);
        if (output !== "") await write(output);
        if (line === undefined) continue;
        const told = await service.run(line);
        await write(service.isOver() ? told : told + PROMPT);
      }
    }
  } catch {
    // The client has gone.
  } finally {
    forget();
    await connection.close().catch(() => undefined);
  }
}
