// The engine's worker of the second page.
import "blockwright/worker";
