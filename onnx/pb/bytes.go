package pb

// Bytes is a bytes field that keeps the slice it was unmarshalled from instead of a copy.
type Bytes []byte

// Marshal returns the bytes themselves.
func (b Bytes) Marshal() ([]byte, error) { return b, nil }

// MarshalTo copies the bytes to the start of data, which must have room for Size bytes.
func (b Bytes) MarshalTo(data []byte) (int, error) { return copy(data, b), nil }

// Unmarshal keeps data.
func (b *Bytes) Unmarshal(data []byte) error {
	*b = data[:len(data):len(data)]
	return nil
}

// Size is the number of bytes.
func (b Bytes) Size() int { return len(b) }

// GetRaw is the tensor's raw_data, nil when absent.
func (m *TensorProto) GetRaw() []byte {
	if m == nil || m.RawData == nil {
		return nil
	}
	return *m.RawData
}
