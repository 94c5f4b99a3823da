"""Write Triton's gRPC protocol as a descriptor set, for clients that do not read .proto files.

Usage: python examples/triton_descriptors.py triton.protoset
"""

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import service_pb2


def with_dependencies(file: FileDescriptor) -> list[FileDescriptor]:
    """Return the file and its imports, each once and after its own imports, as readers expect."""
    imported = [one for dependency in file.dependencies for one in with_dependencies(dependency)]
    return list({one.name: one for one in [*imported, file]}.values())


def descriptor_set(file: FileDescriptor) -> FileDescriptorSet:
    """Return the descriptors of the file and its imports."""
    files = FileDescriptorSet()
    for one in with_dependencies(file):
        one.CopyToProto(files.file.add())
    return files


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Path(sys.argv[1]).write_bytes(descriptor_set(service_pb2.DESCRIPTOR).SerializeToString())
