package statefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/meshvm/meshvm/syncer/vip"
)

// kind and version are what the first line says the file is.
const (
	kind    = "meshvm virtual IPs"
	version = 1
)

// header is the first line.
type header struct {
	Kind    string `json:"kind"`
	Version int    `json:"version"`
	Records int    `json:"records"`
	// Checksum is of everything below the header, SHA-256 in hexadecimal digits.
	Checksum string `json:"checksum"`
}

func encode(records []vip.Record) ([]byte, error) {
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	lines.SetEscapeHTML(false)
	for _, record := range records {
		if err := lines.Encode(record); err != nil {
			return nil, fmt.Errorf("encode the record of %s: %w", record.Address, err)
		}
	}
	first, err := json.Marshal(header{kind, version, len(records), checksum(body.Bytes())})
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	return append(append(first, '\n'), body.Bytes()...), nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// decode reads what encode wrote, and nothing else.
func decode(content []byte) ([]vip.Record, error) {
	first, body, whole := bytes.Cut(content, []byte{'\n'})
	if len(content) == 0 {
		return nil, errors.New("it is empty")
	}
	var head header
	if err := json.Unmarshal(first, &head); !whole || err != nil || head.Kind != kind {
		return nil, errors.New("line 1: it is no ledger of virtual IPs")
	}
	if head.Version != version {
		return nil, fmt.Errorf("line 1: it has version %d, and this program knows version %d only", head.Version, version)
	}
	if sum := checksum(body); sum != head.Checksum {
		return nil, fmt.Errorf("it is damaged: its checksum is %s, and should be %s", sum, head.Checksum)
	}
	var records []vip.Record
	for line := range bytes.Lines(body) {
		record, err := decodeRecord(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(records)+2, err)
		}
		records = append(records, record)
	}
	if len(records) != head.Records {
		return nil, fmt.Errorf("it holds %d records, and should hold %d", len(records), head.Records)
	}
	return records, nil
}

func decodeRecord(line []byte) (vip.Record, error) {
	var record vip.Record
	fields := json.NewDecoder(bytes.NewReader(line))
	fields.DisallowUnknownFields()
	switch err := fields.Decode(&record); {
	case err != nil:
		return vip.Record{}, fmt.Errorf("it is no record: %w", err)
	case !record.Address.IsValid():
		return vip.Record{}, errors.New("the record has no address")
	case record.Host == "":
		return vip.Record{}, fmt.Errorf("the record of %s has no host", record.Address)
	}
	return record, nil
}
