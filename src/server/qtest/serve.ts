/** Joins a qtest session to a connection: a line in, a line out. */
import type { HostConnection } from "../../base/host.ts";
import { onAbort } from "../../base/signals.ts";
import { QtestSession, type VirtualClock } from "./protocol.ts";

/** Is told what comes (`R`), what is sent (`S`), and that a client comes or goes (`I`). */
export type QtestLog = (kind: "I" | "R" | "S", words: string) => void;

/** Longest line, characters: a block of memory in hexadecimal. */
const MAX_LINE = 4 << 20;

/** Serves one client until it goes, or the machine. Never rejects. */
export async function serveQtest(
  connection: HostConnection,
  { clock, signal, log }: { clock: VirtualClock; signal: AbortSignal; log?: QtestLog | undefined },
): Promise<void> {
  const close = (): void => void connection.close().catch(() => undefined);
  const forget = onAbort(signal, close);
  const session = new QtestSession(clock);
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let rest = "";
  log?.("I", "OPENED");
  if (signal.aborted) close();
  try {
    for await (const bytes of connection.incoming) {
      rest += decoder.decode(bytes, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        log?.("R", line);
        const answer = session.answer(line);
        if (answer !== "") log?.("S", answer.trimEnd());
        if (answer !== "") await connection.write(encoder.encode(answer));
      }
      if (rest.length > MAX_LINE) break;
    }
  } catch {
    // The client has gone.
  } finally {
    forget();
    log?.("I", "CLOSED");
    await connection.close().catch(() => undefined);
  }
}
