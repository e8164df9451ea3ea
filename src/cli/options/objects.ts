/** The objects of `--object`: secrets, for the engine of a verb or of a job in the foreground. */
import type { Engine } from "../../node.ts";

/** Makes the objects of the definitions (`secret,id=…,file=…` or JSON), in their order. Throws QapiError, CommandError. */
export async function addObjects(engine: Engine, definitions: readonly string[] = []): Promise<void> {
  if (definitions.length === 0) return;
  const { parseOption } = await import("../../wire/qapi/index.ts");
  for (const definition of definitions)
    await engine.objects.add(parseOption("ObjectOptions", definition, { impliedKey: "qom-type" }));
}
