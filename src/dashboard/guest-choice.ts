/**
 * The choice of the guest: the tiny one that is always there, or Debian's Linux, which the server puts together out of
 * Debian's packages when it is first asked for, where it can.
 */
import { byId, say } from "./dom.ts";

/** See the head. */
export type GuestKind = "tiny" | "debian";

interface DebianFacts {
  state: "ready" | "none" | "making" | "failed" | "impossible";
  why: string;
}

const MEMORY = "blockwright-demo-guest";
const ASK_MS = 700;

function ask(method: "GET" | "POST"): Promise<DebianFacts> {
  return fetch("debian", { method, cache: "no-store" }).then(
    (answer) => answer.json() as Promise<DebianFacts>,
  );
}

/** Shows the choice, and returns what is to be booted. `leave` ends this page's guest before another page boots the other. */
export async function chooseGuest(leave: () => Promise<void>): Promise<GuestKind> {
  const select = byId<HTMLSelectElement>("guest-kind");
  const facts = await ask("GET");
  if (facts.state === "impossible") {
    select.querySelector<HTMLOptionElement>("[value=debian]")!.disabled = true;
    tell(`Debian's Linux is not offered: ${facts.why}.`);
  }
  const kind = facts.state === "ready" && localStorage.getItem(MEMORY) === "debian" ? "debian" : "tiny";
  select.value = kind;
  select.addEventListener("change", () => {
    const wanted = select.value as GuestKind;
    void change(wanted, leave).catch((error: unknown) => {
      select.value = kind;
      select.disabled = false;
      tell(error instanceof Error ? error.message : String(error));
    });
  });
  select.disabled = false;
  return kind;
}

async function change(wanted: GuestKind, leave: () => Promise<void>): Promise<void> {
  byId<HTMLSelectElement>("guest-kind").disabled = true;
  if (wanted === "debian") await make();
  localStorage.setItem(MEMORY, wanted);
  await leave();
  location.reload();
}

async function make(): Promise<void> {
  let facts = await ask("POST");
  while (facts.state === "making") {
    tell("Debian's kernel and busybox are being fetched and put together: up to a minute.");
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    facts = await ask("GET");
  }
  if (facts.state !== "ready") throw new Error(`Debian's Linux could not be made: ${facts.why}`);
}

function tell(words: string): void {
  const place = byId("guest-why");
  place.hidden = false;
  say(place, words);
}
