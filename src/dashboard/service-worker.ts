/**
 * The service worker of the demo as files alone (`npm run demo:static`), where no server plays along: it cuts the disk's
 * connections as the demo's server does, and answers for it at the same addresses.
 *
 * Invariant: what it knows is in the cache, since browsers end a service worker whenever they like.
 */

/** What TypeScript's library for pages lacks. */
interface LastingEvent extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends LastingEvent {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface ServiceWorkerScope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: LastingEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
}

const scope = globalThis as unknown as ServiceWorkerScope;
const STORE = "blockwright-demo-network";
const MARK = "cut";
/** Ends the disk's requests that are under way. */
let connections = new AbortController();

async function isCut(): Promise<boolean> {
  return (await (await caches.open(STORE)).match(MARK)) !== undefined;
}

async function set(cut: boolean): Promise<void> {
  const store = await caches.open(STORE);
  if (!cut) return void (await store.delete(MARK));
  await store.put(MARK, new Response());
  connections.abort();
  connections = new AbortController();
}

async function network(request: Request): Promise<Response> {
  if (request.method !== "POST") return Response.json({ isCut: await isCut() });
  await set(new URL(request.url).searchParams.get("state") === "cut");
  return new Response(null, { status: 204 });
}

async function disk(request: Request): Promise<Response> {
  if (await isCut()) return Response.error();
  // No other cache may answer for the server, which is cut or not.
  return fetch(request, { signal: connections.signal, cache: "no-store" });
}

const debian = { state: "impossible", why: "these are files alone, without the demo's server" };

/** What is not just a file, by its name. */
const answers: Readonly<Record<string, (request: Request) => Promise<Response>>> = {
  network,
  "disk.img": disk,
  debian: () => Promise.resolve(Response.json(debian)),
};

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const [path = ""] = event.request.url.split("?");
  const answer = path.startsWith(scope.registration.scope)
    ? answers[path.slice(scope.registration.scope.length)]
    : undefined;
  if (answer) event.respondWith(answer(event.request));
});
