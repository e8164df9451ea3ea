/**
 * Node's own modules at their first use. Loading one takes up to 5 ms, and a program that bundles everything it may need names
 * many that a run never touches.
 */

/** Those that take long, and are never called themselves (`node:events`, for one, is a class). */
const late: ReadonlySet<string> = new Set([
  "node:child_process",
  "node:crypto",
  "node:fs/promises",
  "node:http",
  "node:https",
  "node:module",
  "node:os",
  "node:readline",
  "node:readline/promises",
  "node:v8",
  "node:worker_threads",
  "node:zlib",
]);

/** A `require` that answers with stand-ins for those modules: the first member that is asked for loads all of them. */
export function requireLate(require: NodeJS.Require): NodeJS.Require {
  const standIns = new Map<string, object>();
  const standInFor = (id: string): object => {
    // What inherits from the stand-in (an importer's own view of the module) takes the members over.
    const handler: ProxyHandler<object> = {
      get(_target, name, receiver: object) {
        if (name === "__esModule") return undefined;
        Object.defineProperties(receiver, Object.getOwnPropertyDescriptors(require(id) as object));
        return Object.hasOwn(receiver, name) ? (Reflect.get(receiver, name) as unknown) : undefined;
      },
    };
    return Object.create(new Proxy({}, handler)) as object;
  };
  const requireOne = (id: string): unknown => {
    if (!late.has(id)) return require(id);
    let standIn = standIns.get(id);
    if (!standIn) standIns.set(id, (standIn = standInFor(id)));
    return standIn;
  };
  return Object.assign(requireOne, require) as NodeJS.Require;
}
