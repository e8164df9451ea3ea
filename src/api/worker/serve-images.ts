/**
 * The library's work on whole images for a client of an engine in another thread: check, compare, convert, resize, import, list. Named by
 * nodes or descriptions as the client has them; what the functions tell on the way (progress, messages) goes to a port of its own.
 *
 * Invariant: a call is answered after all that it told, so that nothing is heard of it later.
 */
import { BlockError, errnoOf, messageOf } from "../../base/errors.ts";
import { closing } from "../../base/lease.ts";
import { settleAll } from "../../base/signals.ts";
import { aboveImplicitFilters } from "../../block/model/chain.ts";
import type { Engine } from "../../machine/engine.ts";
import { CompareError, compare } from "../compare.ts";
import { CopyError, convert } from "../convert.ts";
import { importImageIn } from "../import.ts";
import { portableLibrary } from "../library.ts";
import { describeImage } from "../named.ts";
import { Node } from "../node.ts";
import { resize } from "../resize.ts";
import { listImagesIn } from "../stored.ts";
import type { ImageCalls } from "./calls.ts";
import type { CallHandlers, PortLike } from "./port.ts";

/** Functions that tell the client, each by its name. */
function teller(port: PortLike | undefined): (name: string) => (...told: unknown[]) => void {
  return (name) =>
    (...told) =>
      port?.postMessage({ name, told }, []);
}

/** Runs `body`, and ends what it told. */
async function telling<T>(
  port: PortLike | undefined,
  body: (tell: ReturnType<typeof teller>) => Promise<T>,
): Promise<T> {
  try {
    return await body(teller(port));
  } finally {
    port?.postMessage({ over: true }, []);
    port?.close?.();
  }
}

/** Handles on nodes, by their names, for as long as `body` runs. */
async function withNodes<T>(
  engine: Engine,
  names: readonly string[],
  body: (nodes: Node[]) => Promise<T>,
): Promise<T> {
  const nodes: Node[] = [];
  const attach = async (): Promise<T> => {
    for (const name of names)
      nodes.push(await Node.attach(engine, aboveImplicitFilters(engine.graph.lookup(name))));
    return body(nodes);
  };
  return closing(attach, () => settleAll(nodes.map((node) => node.close())).then(() => undefined));
}

/** Failures of one side cross as what failed there, with the place. */
function crossing(error: unknown): unknown {
  if (error instanceof CompareError) {
    const { cause, offset, disk, step } = error;
    const message = `${step} of the ${disk === 0 ? "first" : "second"} disk failed: ${messageOf(cause)}`;
    return new BlockError({ code: errnoOf(cause), op: "compare", message, offset, cause });
  }
  if (!(error instanceof CopyError)) return error;
  const { code, operation, range, cause } = error;
  const message = `${operation} failed: ${messageOf(cause)}`;
  return new BlockError({ code, op: "convert", message, ...range, cause });
}

const crossed = (error: unknown): never => {
  throw crossing(error);
};

/** The calls, for one engine. */
export const imageHandlers = (engine: Engine): CallHandlers<ImageCalls> => ({
  describe: ({ name }) => describeImage(engine, name),
  check: ({ image, repair, told }, { signal }) =>
    telling(told, (tell) =>
      portableLibrary.check(image, {
        engine,
        signal,
        onMessage: tell("onMessage"),
        ...(repair ? { repair } : {}),
      }),
    ),
  compare: ({ nodes, options, told }, { signal }) =>
    telling(told, (tell) =>
      withNodes(engine, nodes, ([a, b]) =>
        compare(a!, b!, { ...options, signal, onProgress: tell("onProgress") }).catch(crossed),
      ),
    ),
  convert: ({ sources, target, options, salvage, told }, { signal }) =>
    telling(told, (tell) =>
      withNodes(engine, [target, ...sources], ([to, ...from]) => {
        const passOver = tell("salvage");
        const salvaging = salvage
          ? {
              salvage: ({ step, offset, error }: { step: string; offset: number; error: unknown }): void =>
                passOver({ step, offset, error: new Error(messageOf(error)) }),
            }
          : {};
        const own = { ...options, ...salvaging, signal, onProgress: tell("onProgress") };
        return convert(from, to!, own).catch(crossed);
      }),
    ),
  resize: ({ node, bytes, options }, { signal }) =>
    withNodes(engine, [node], async ([disk]) => {
      await resize(disk!, bytes, { ...options, signal });
      return disk!.length;
    }),
  listImages: ({ driver }, { signal }) => listImagesIn(engine, { signal, ...(driver ? { driver } : {}) }),
  importImage: ({ blob, spec, options, told }, { signal }) =>
    telling(told, (tell) =>
      importImageIn(engine, blob, spec, { ...options, signal, onProgress: tell("onProgress") }).catch(
        crossed,
      ),
    ),
});
