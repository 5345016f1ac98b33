package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// shardCount is fixed: another number would have records looked for where they are not. With as many
	// records as an allocator keeps at most, all of the longest names, a shard stays below half of the 1 MiB
	// that a ConfigMap may have.
	shardCount = 256
	// shardLimit bounds what is written to one, all the same.
	shardLimit = 900 << 10

	formatKey     = "format"
	recordsKey    = "records"
	currentFormat = "1"
)

// shardName is the ConfigMap of a shard.
func shardName(number int) string { return fmt.Sprintf("meshvm-vip-ledger-%03d", number) }

// shardOf is where the record of an address is. All that is written about an address is written to one
// ConfigMap, so that two who give it to different hosts cannot both succeed.
func shardOf(address netip.Addr) int {
	sum := fnv.New32a()
	bytes := address.As16()
	sum.Write(bytes[:])
	hash := sum.Sum32()
	return int((hash ^ hash>>16) % shardCount)
}

// encodeShard is the content of a shard's ConfigMap: a line for each record, in order of the addresses.
func encodeShard(records map[netip.Addr]vip.Record) (map[string]string, error) {
	var lines strings.Builder
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for _, address := range slices.SortedFunc(maps.Keys(records), netip.Addr.Compare) {
		if err := encoder.Encode(records[address]); err != nil {
			return nil, fmt.Errorf("encode the record of %s: %w", address, err)
		}
	}
	if lines.Len() > shardLimit {
		return nil, fmt.Errorf("%d records take %d bytes, more than %d", len(records), lines.Len(), shardLimit)
	}
	return map[string]string{formatKey: currentFormat, recordsKey: lines.String()}, nil
}

// parseShard reads the content of a shard's ConfigMap. What is not understood in full is an error.
func parseShard(number int, data map[string]string) (map[netip.Addr]vip.Record, error) {
	if data[formatKey] != currentFormat {
		return nil, fmt.Errorf("data.%s is %q, want %q", formatKey, data[formatKey], currentFormat)
	}
	text, found := data[recordsKey]
	if !found {
		return nil, fmt.Errorf("data.%s is missing", recordsKey)
	}
	records := map[netip.Addr]vip.Record{}
	line := 0
	for content := range strings.Lines(text) {
		line++
		record, err := parseRecord([]byte(content))
		if err == nil {
			err = checkRecord(record, number)
		}
		if _, again := records[record.Address]; err == nil && again {
			err = fmt.Errorf("%s has a record already", record.Address)
		}
		if err != nil {
			return nil, fmt.Errorf("data.%s line %d: %w", recordsKey, line, err)
		}
		records[record.Address] = record
	}
	return records, nil
}

func parseRecord(line []byte) (vip.Record, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	var record vip.Record
	if err := decoder.Decode(&record); err != nil {
		return vip.Record{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return vip.Record{}, errors.New("there is something behind the record")
	}
	return record, nil
}

func checkRecord(record vip.Record, number int) error {
	switch {
	case !record.Address.IsValid() || record.Address.Zone() != "" || record.Address.Is4In6():
		return fmt.Errorf("address %q: want an IPv4 or IPv6 address", record.Address)
	case record.Host == "":
		return fmt.Errorf("the record of %s has no host", record.Address)
	case shardOf(record.Address) != number:
		return fmt.Errorf("the record of %s belongs to %s", record.Address, shardName(shardOf(record.Address)))
	}
	return nil
}
