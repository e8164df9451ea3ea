// In an engine without a protocol to drive it by, the page asks its driver what to evaluate, as long as it lives
// (support/webkit.ts). Elsewhere its address names no agent, and this does nothing.

/** Evaluates one, and tells what came of it. */
async function evaluate(driver: string, { id, script }: { id: number; script: string }): Promise<void> {
  let told: object;
  try {
    // oxlint-disable-next-line no-eval -- as a debugger would, in the page's own scope
    told = { id, value: (await (0, eval)(script)) as string };
  } catch (error) {
    told = { id, error: String(error) };
  }
  await fetch(driver, { method: "POST", body: JSON.stringify(told) });
}

/** Asks for the next thing while those before are still at work. */
async function obey(driver: string): Promise<void> {
  for (let question = "?first"; ; question = "") {
    const answer = await fetch(driver + question, { cache: "no-store" });
    void evaluate(driver, (await answer.json()) as { id: number; script: string });
  }
}

/** Obeys the agent that the page's address names, if there is one. */
export function obeyAgent(): void {
  const driver = new URLSearchParams(location.search).get("agent");
  if (driver !== null) void obey(driver);
}
