package registryv1

import "github.com/cespare/xxhash/v2"

// MaxBuckets is the most buckets that a Compare divides a view into. Their digests, 16 KiB, are one
// message of a size that a syncer takes from a VM.
const MaxBuckets = 4096

// bucketSize is how many resources a bucket holds at least, on average, below MaxBuckets.
const bucketSize = 8

// Bucket is the bucket, below count, that a key falls into. Count is a power of two up to MaxBuckets.
// A bucket of fewer is the union of some of more: bucket b of n holds those of any multiple of n that
// are b modulo n. So the digests of many buckets add up to those of fewer.
func Bucket(key string, count int) int { return int(xxhash.Sum64String(key) & uint64(count-1)) }

// BucketsFor is how many buckets a Compare divides a view of this many resources into: 8 to 16
// resources each, up to MaxBuckets.
//
// More buckets cost four bytes each, fewer have a VM list more of what is equal, four bytes a resource.
// No one number serves every size, so it follows the size. Where nothing has changed the digest in Hello
// says so, in some 500 bytes with TCP's and HTTP/2's share, and no bucket is spoken of. Else, in percent of
// the whole view's bytes, by buckets (go test ./syncer/server -run '^$' -bench CompareBytes; * is the choice):
//
//	services  changed     64    256    512   1024   2048   4096
//	   1,000        1  0.42*   1.11   2.08   4.01   7.91   15.7
//	   1,000      100  13.5*   12.7   13.3   15.0   18.7   26.5
//	  10,000        1   0.09   0.12   0.20  0.38*   0.75   1.49
//	  10,000      100   4.00   2.36   1.89  1.77*   1.99   2.64
//	  10,000    1,000   13.8   13.9   13.6  13.0*   12.7   12.9
//	 100,000        1   0.06   0.02   0.03   0.04   0.07  0.14*
//	 100,000      100   2.78   1.20   0.72   0.45   0.34  0.33*
//	 100,000    1,000   4.45   4.39   3.99   3.24   2.47  1.94*
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
