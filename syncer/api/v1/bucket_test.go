package registryv1

import (
	"fmt"
	"slices"
	"testing"
)

func TestBucketsAreEven(t *testing.T) {
	for count := 1; count <= MaxBuckets; count *= 2 {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			counts := make([]int, count)
			for i := range 100 * count {
				counts[Bucket(ServiceKey("", "default", fmt.Sprintf("service-%d", i)), count)]++
			}
			if smallest := slices.Min(counts); smallest < 40 {
				t.Errorf("Smallest bucket of 100 on average: got %d, want at least 40", smallest)
			}
		})
	}
}

func TestBucketOfFewerIsAUnion(t *testing.T) {
	for i := range 1000 {
		key := fmt.Sprintf("Service/default/service-%d", i)
		finest := Bucket(key, MaxBuckets)
		for count := 1; count < MaxBuckets; count *= 2 {
			if got, want := Bucket(key, count), finest%count; got != want {
				t.Fatalf("Bucket(%q, %d): got %d, want %d as of bucket %d of %d", key, count, got, want, finest, MaxBuckets)
			}
		}
	}
}

// goldenBucket must never change: two ends of different versions must agree.
const goldenBucket = 824

func TestBucketIsStable(t *testing.T) {
	if got := Bucket("Service/default/reviews", MaxBuckets); got != goldenBucket {
		t.Errorf("Bucket: got %d, want %d", got, goldenBucket)
	}
}

func TestBucketsFor(t *testing.T) {
	tests := map[string]struct{ resources, want int }{
		"nothing":                 {0, 1},
		"a few":                   {15, 1},
		"enough for two":          {16, 2},
		"just not enough for 64":  {511, 32},
		"a thousand":              {1000, 64},
		"ten thousand":            {10_000, 1024},
		"a hundred thousand":      {100_000, 4096},
		"a hundred million":       {100_000_000, 4096},
		"the least for the most":  {32768, 4096},
		"just not enough for all": {32767, 2048},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := BucketsFor(test.resources)
			if got != test.want || !ValidBuckets(got) {
				t.Errorf("BucketsFor(%d): got %d, valid %t, want %d", test.resources, got, ValidBuckets(got), test.want)
			}
		})
	}
	for _, count := range []int{-4, 0, 3, 2 * MaxBuckets} {
		if ValidBuckets(count) {
			t.Errorf("ValidBuckets(%d): got true, want false", count)
		}
	}
}
