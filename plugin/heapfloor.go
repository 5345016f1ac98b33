package meshvm

import "sync"

// heapFloorBytes is address space that the heap begins with. Nothing ever touches it, so it costs no
// memory, but the garbage collector counts it when it decides how much may be allocated until the next
// cycle.
//
// A mirror of a small mesh and the rest of CoreDNS are some 2 MB of live heap, just where the collector's
// own floor of 4 MB leaves the least room: under load it ran every 1,400 queries and took 4 % of the
// time. With this floor it runs a seventh as often, for at most 8 MB more memory. With a large mesh the
// mirror itself is the floor, and this no longer counts.
const heapFloorBytes = 8 << 20

// heapFloor is taken once in a process, when the first mirror is.
var heapFloor = sync.OnceValue(func() []byte { return make([]byte, heapFloorBytes) })
