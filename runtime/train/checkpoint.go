package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"

	"mqatc/onnx/ir"
)

// Checkpoint is everything a run needs to go on with the same bits.
type Checkpoint struct {
	// Key identifies the run: a checkpoint of another key is refused.
	Key string
	// Step is the number of steps done, and with the run's seed the position in all random sequences.
	Step int
	// Values are further numbers of the run, such as the best metric so far.
	Values map[string]float64
	// Tensors are an engine's snapshot.
	Tensors map[string]*ir.Tensor
}

// A checkpoint file is the magic, the length of the header (8 bytes, little-endian), the header in JSON, the tensors' bytes in
// the header's order, and the SHA-256 of all that.
const (
	checkpointMagic   = "MQATCKPT"
	checkpointVersion = 1
	maxHeader         = 64 << 20
)

type checkpointHeader struct {
	Version int                `json:"version"`
	Key     string             `json:"key"`
	Step    int                `json:"step"`
	Values  map[string]float64 `json:"values,omitempty"`
	Tensors []tensorHeader     `json:"tensors"`
}

type tensorHeader struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Dims  []int64 `json:"dims"`
	Bytes int64   `json:"bytes"`
}

// Write stores the checkpoint: to a temporary file, synced, then renamed. Equal checkpoints give equal bytes.
func (c *Checkpoint) Write(path string) error {
	h := checkpointHeader{Version: checkpointVersion, Key: c.Key, Step: c.Step, Values: c.Values, Tensors: []tensorHeader{}}
	names := sortedKeys(c.Tensors)
	for _, n := range names {
		t := c.Tensors[n]
		h.Tensors = append(h.Tensors, tensorHeader{n, t.DType().String(), t.Dims(), int64(len(t.Raw()))})
	}
	head, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer f.Cleanup()
	sum := sha256.New()
	w := io.MultiWriter(f, sum)
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(head)))
	parts := [][]byte{[]byte(checkpointMagic), size[:], head}
	for _, n := range names {
		parts = append(parts, c.Tensors[n].Raw())
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("checkpoint %s: %w", path, err)
		}
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return nil
}

// ReadCheckpoint reads a checkpoint; a damaged or foreign file is an error that says so. A missing file gives an error for which
// os.IsNotExist, or errors.Is with fs.ErrNotExist, is true.
func ReadCheckpoint(path string) (*Checkpoint, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseCheckpoint(data)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return c, nil
}

func parseCheckpoint(data []byte) (*Checkpoint, error) {
	fixed := len(checkpointMagic) + 8
	if len(data) < fixed+sha256.Size || string(data[:len(checkpointMagic)]) != checkpointMagic {
		return nil, fmt.Errorf("is no checkpoint, or was cut short")
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("is damaged: its checksum does not match")
	}
	n := binary.LittleEndian.Uint64(data[len(checkpointMagic):])
	if n > maxHeader || n > uint64(len(body)-fixed) {
		return nil, fmt.Errorf("has a header of %d bytes", n)
	}
	var h checkpointHeader
	if err := json.Unmarshal(body[fixed:fixed+int(n)], &h); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if h.Version != checkpointVersion {
		return nil, fmt.Errorf("is of version %d; this program reads version %d", h.Version, checkpointVersion)
	}
	if h.Step < 0 {
		return nil, fmt.Errorf("says step %d", h.Step)
	}
	c := &Checkpoint{Key: h.Key, Step: h.Step, Values: h.Values, Tensors: map[string]*ir.Tensor{}}
	rest := body[fixed+int(n):]
	for _, t := range h.Tensors {
		d, ok := ir.ParseDType(t.Type)
		if !ok || t.Bytes < 0 || t.Bytes > int64(len(rest)) {
			return nil, fmt.Errorf("tensor %q: type %q, %d bytes", t.Name, t.Type, t.Bytes)
		}
		v, err := ir.NewTensor(d, t.Dims, rest[:t.Bytes:t.Bytes])
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if c.Tensors[t.Name] != nil {
			return nil, fmt.Errorf("tensor %q stands twice", t.Name)
		}
		c.Tensors[t.Name] = v
		rest = rest[t.Bytes:]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes too many", len(rest))
	}
	return c, nil
}
