/** Options of the verb `sim`, as commander gives them. */

/** The options. */
export interface SimFlags {
  seed?: string;
  stories?: string;
  minutes?: string;
  shrink?: boolean;
  replay?: string;
  io?: boolean;
  zoo?: boolean;
  json?: boolean;
}
