/**
 * Questions on the formats of an engine that any of them may answer, so that nobody else has to know one by name.
 */
import { CommandError } from "../../base/errors.ts";
import type { DriverType } from "./contract.ts";

/** Who has drivers: a graph. */
export interface DriverSource {
  readonly drivers: Iterable<DriverType>;
}

/** The format that is meant where none is named. Throws CommandError in an engine without one. */
export function defaultFormat({ drivers }: DriverSource, use: "unclaimed" | "overlay"): string {
  for (const type of drivers) if (type.isDefault === use) return type.name;
  throw new CommandError(
    "Image format not specified, and this engine has none for images that do not say it",
  );
}

/** The driver that reads the names of a protocol; undefined: there is none. */
export function driverOfProtocol({ drivers }: DriverSource, protocol: string): DriverType | undefined {
  for (const type of drivers)
    if (type.parseName && (type.name === protocol || type.protocols?.includes(protocol))) return type;
  return undefined;
}

/** Whether a driver is of that name. */
export function findDriver({ drivers }: DriverSource, name: string): DriverType | undefined {
  for (const type of drivers) if (type.name === name) return type;
  return undefined;
}

/** Whether an image of that format is its file, as it is: such a file needs to be made and no more. */
export function isItsFile(type: DriverType): boolean {
  return type.create === undefined && type.createOptions !== undefined;
}
