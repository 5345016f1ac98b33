package registryv1

import "github.com/cespare/xxhash/v2"

// MaxBuckets is the most buckets that a Compare divides a view into. Their digests, 32 KiB, are one
// message of the size that a syncer takes from a VM.
const MaxBuckets = 4096

// bucketSize is how many resources a bucket holds at least, on average, below MaxBuckets.
const bucketSize = 16

// Bucket is the bucket, below count, that a key falls into. Count is a power of two up to MaxBuckets.
// A bucket of fewer is the union of some of more: bucket b of n holds those of any multiple of n that
// are b modulo n. So the digests of many buckets add up to those of fewer.
func Bucket(key string, count int) int { return int(xxhash.Sum64String(key) & uint64(count-1)) }

// BucketsFor is how many buckets a Compare divides a view of this many resources into: 16 to 32
// resources each, up to MaxBuckets.
//
// More buckets cost eight bytes each, fewer have a VM list more of what is equal, eight bytes a resource.
// No one number serves every size, so it follows the size. Where nothing has changed the digest in Hello
// says so, in some 500 bytes with TCP's and HTTP/2's share, and no bucket is spoken of. Else, in percent of
// the whole view's bytes, by buckets (go test ./syncer/server -run '^$' -bench CompareBytes; * is the choice):
//
//	services  changed     64    256    512   1024   2048   4096
//	   1,000        1   0.73   2.11   4.05   7.92   15.7   31.3   32*: 0.64
//	   1,000      100   17.3   15.6   16.8   20.2   27.7   43.1   32*: 18.5
//	  10,000        1   0.17   0.23  0.39*   0.76   1.49   2.97
//	  10,000      100   7.01   3.72  2.79*   2.55   2.98   4.29
//	  10,000    1,000   18.0   18.0  17.3*   16.2   15.5   15.9
//	 100,000        1   0.11   0.05   0.05   0.08   0.14  0.28*
//	 100,000      100   5.46   2.30   1.34   0.81   0.58  0.56*
//	 100,000    1,000   7.91   7.79   6.98   5.48   3.93  2.89*
//
// The bodies of 100 changed of 1,000 services are ten percent in any case. More resources to a bucket
// would serve one change better and a hundred worse, and digests of all buckets stay under 0.4 percent.
func BucketsFor(resources int) int {
	count := 1
	for count < MaxBuckets && 2*count*bucketSize <= resources {
		count *= 2
	}
	return count
}

// ValidBuckets reports whether a view can be divided into this many buckets: a power of two, from 1 to
// MaxBuckets.
func ValidBuckets(count int) bool { return 0 < count && count <= MaxBuckets && count&(count-1) == 0 }
