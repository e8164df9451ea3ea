/**
 * Properties that `-global` gives every device of a type, or of what is derived from it. Source: behaviour of QEMU 7.2.
 */
import { CommandError, messageOf } from "../../base/errors.ts";
import { checkProperties, type DeviceModel } from "./models.ts";
import { checkOne } from "./values.ts";

/** One of them. */
export interface GlobalProperty {
  readonly driver: string;
  readonly property: string;
  readonly value: string;
}

/** Reads the argument of `-global`: `TYPE.PROPERTY=VALUE`, or the three by their names. Throws CommandError. */
export function readGlobal(
  text: string,
  pairsOf: (text: string) => readonly (readonly [string, string])[],
): GlobalProperty {
  const [, driver, property, value] = /^([^.,=]+)\.([^=]+)=(.*)$/s.exec(text) ?? [];
  if (driver !== undefined) return { driver, property: property!, value: value! };
  const given: Record<string, string> = {};
  for (const [key, its] of pairsOf(text)) {
    if (!["driver", "property", "value"].includes(key)) throw new CommandError(`Invalid parameter '${key}'`);
    given[key] = its;
  }
  if (given["driver"] === undefined || given["property"] === undefined || given["value"] === undefined)
    throw new CommandError("options 'driver', 'property', and 'value' are required");
  return { driver: given["driver"], property: given["property"], value: given["value"] };
}

function typesOf({ name, parent, drive }: DeviceModel): string[] {
  return [name, parent, drive?.type ?? "", "device"];
}

/** Those of a model, the last one of each name. Throws CommandError where one is nothing for it. */
export function globalsFor(
  model: DeviceModel,
  globals: readonly GlobalProperty[],
): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { driver, property, value } of globals) {
    if (!typesOf(model).includes(driver)) continue;
    try {
      checkProperties(model, { [property]: value });
      checkOne(model, property, value);
    } catch (error) {
      const words = `can't apply global ${driver}.${property}=${value}: ${messageOf(error)}`;
      throw new CommandError(words, { cause: error });
    }
    found[property] = value;
  }
  return found;
}
