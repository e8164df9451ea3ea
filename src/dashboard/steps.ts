/**
 * Three things to try. A step that was done keeps its mark for as long as the tab lives.
 */
import { byId, say } from "./dom.ts";

/** The steps, by the ids of their marks. */
export type Step = "reload" | "plug" | "download";

const MEMORY = "blockwright-demo-steps";

function remembered(): string[] {
  return (sessionStorage.getItem(MEMORY) ?? "").split(" ").filter(Boolean);
}

/** Shows the marks of what was done in this tab. */
export function showSteps(): void {
  for (const step of remembered()) say(byId(`step-${step}`), "Done");
}

/** A step is done. */
export function done(step: Step): void {
  sessionStorage.setItem(MEMORY, [...new Set([...remembered(), step])].join(" "));
  showSteps();
}
