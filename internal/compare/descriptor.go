package compare

// Why this file exists: with the descriptors of a service the fields of its messages have names, and texts need not be
// told from messages by guessing.

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Descriptors are the messages that methods of gRPC answer, by path, such as /shop.Cart/Get.
type Descriptors map[string]protoreflect.MessageDescriptor

// Add reads a descriptor set, as `protoc --descriptor_set_out --include_imports` and `buf build -o` write it.
func (d Descriptors) Add(set []byte) error {
	var list descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &list); err != nil {
		return fmt.Errorf("is no descriptor set: %w", err)
	}
	files, err := protodesc.NewFiles(&list)
	if err != nil {
		return fmt.Errorf("is no complete descriptor set; protoc needs --include_imports: %w", err)
	}
	before := len(d)
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				method := methods.Get(j)
				d["/"+string(method.Parent().FullName())+"/"+string(method.Name())] = method.Output()
			}
		}
		return true
	})
	if len(d) == before {
		return errors.New("has no service")
	}
	return nil
}

// fieldName returns the name of a field, and its descriptor if that is known.
func fieldName(message protoreflect.MessageDescriptor, number protoreflect.FieldNumber) (string, protoreflect.FieldDescriptor) {
	if message != nil {
		if field := message.Fields().ByNumber(number); field != nil {
			return string(field.Name()), field
		}
	}
	return fmt.Sprint(number), nil
}
