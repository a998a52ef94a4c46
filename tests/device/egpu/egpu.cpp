// An emulated accelerator for checks where no GPU is lent: memory of its own device type, kernels that run on the CPU,
// and the two errors that matter, tensors of two devices in one operation and numpy() of a device's tensor.
#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/GeneratorForPrivateuseone.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>
#include <set>

using at::Tensor;
using c10::Device; using c10::DeviceType; using c10::Stream;
static const auto E = DeviceType::PrivateUse1;

struct Alloc final : c10::Allocator {
  static void drop(void* p) { c10::free_cpu(p); }
  c10::DataPtr allocate(size_t n) override { void* p = n ? c10::alloc_cpu(n) : nullptr; return {p, p, &drop, Device(E, 0)}; }
  c10::DeleterFnPtr raw_deleter() const override { return &drop; }
  void copy_data(void* d, const void* s, size_t n) const override { default_copy_data(d, s, n); }
};
static Alloc alloc;
REGISTER_ALLOCATOR(DeviceType::PrivateUse1, &alloc);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return E; }
  Device exchangeDevice(Device) const override { return Device(E, 0); }
  Device getDevice() const override { return Device(E, 0); }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device d) const override { return Stream(Stream::DEFAULT, Device(E, 0)); }
  Stream getNewStream(Device d, int) const override { return Stream(Stream::DEFAULT, Device(E, 0)); }
  Stream exchangeStream(Stream s) const override { return s; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void record(void**, const Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  bool isPinnedPtr(const void*) const override { return false; }
  Device getDeviceFromPtr(void*) const override { return Device(E, 0); }
  void resizePrivateUse1Bytes(const c10::Storage& s, size_t n) const override {
    at::native::resize_bytes_cpu(s.unsafeGetStorageImpl(), n);
  }
};

static Tensor new_empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<Device>,
                    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &alloc, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), format);
}
static Tensor new_empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                            std::optional<Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &alloc, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}
static Tensor strided(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  auto r = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(self.storage()), self.key_set(), self.dtype());
  r.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset.value_or(self.storage_offset()));
  return r;
}
static Tensor new_view(const Tensor& self, at::IntArrayRef size) {
  auto shape = at::infer_size(size, self.numel());
  auto stride = at::detail::computeStride(self.sizes(), self.strides(), shape);
  TORCH_CHECK(stride.has_value(), "view size is not compatible with input tensor's size and stride");
  return strided(self, shape, *stride, self.storage_offset());
}
static Tensor reshape_alias(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride) { return strided(self, size, stride, self.storage_offset()); }
static Tensor alias_cpu(const Tensor& t) {  // the same memory as a tensor of the CPU
  auto keep = t;
  return at::from_blob(t.data_ptr() ? t.data_ptr() : (void*)&keep, t.sizes(), t.strides(), [keep](void*) {}, at::TensorOptions().dtype(t.dtype()).device(at::kCPU));
}
static Tensor to_host(const Tensor& t) { return t.device().type() == E ? alias_cpu(t) : t; }
static Tensor copy_from(const Tensor& self, const Tensor& dst, bool) { to_host(dst).copy_(to_host(self)); return dst; }
static const Tensor& resize_(const Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  if (self.sizes() == size && !format.has_value()) return self;  // a view keeps its strides: operations in place end here
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  size_t need = (self.storage_offset() + self.numel()) * self.dtype().itemsize();
  if (self.storage().nbytes() < need) at::native::resize_bytes_cpu(self.storage().unsafeGetStorageImpl(), need);
  if (format.has_value() && *format != at::MemoryFormat::Contiguous && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  return self;
}
static Tensor copy_from_and_resize(const Tensor& self, const Tensor& dst) { resize_(dst, self.sizes(), std::nullopt); to_host(dst).copy_(to_host(self)); return dst; }
static Tensor& set_storage(Tensor& self, c10::Storage s, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(s);
  std::vector<int64_t> st(stride.begin(), stride.end());
  if (st.size() != size.size()) { st.assign(size.size(), 1); for (int64_t i = (int64_t)size.size() - 2; i >= 0; --i) st[i] = st[i + 1] * std::max<int64_t>(size[i + 1], 1); }
  impl->set_sizes_and_strides(size, st, offset);
  return self;
}
static Tensor& set_source(Tensor& self, c10::Storage s) { int64_t n = s.nbytes() / self.dtype().itemsize(); return set_storage(self, s, 0, {n}, {}); }
static Tensor& set_tensor(Tensor& self, const Tensor& src) { return set_storage(self, src.storage(), src.storage_offset(), src.sizes(), src.strides()); }
static at::Scalar local_scalar(const Tensor& self) { return alias_cpu(self).item(); }

static void same_device(const char* op, std::initializer_list<Tensor> ts) {
  for (auto& t : ts)
    TORCH_CHECK(!t.defined() || t.device().type() == E || t.dim() == 0, "Expected all tensors to be on the same device, but found at least two devices, egpu:0 and ", t.device(), "! (", op, ")");
}
static Tensor to_dev(const Tensor& t) { if (!t.defined()) return t; Tensor r = at::empty_like(t, t.options().device(Device(E, 0))); alias_cpu(r).copy_(t); return r; }
static Tensor conv(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d, bool tr, at::IntArrayRef op, int64_t g) {
  same_device("convolution", {x, w, b.has_value() ? *b : Tensor()});
  std::optional<Tensor> hb; if (b.has_value() && b->defined()) hb = to_host(*b);
  return to_dev(at::convolution(to_host(x), to_host(w), hb, s, p, d, tr, op, g));
}
static std::tuple<Tensor, Tensor, Tensor> conv_backward(const Tensor& go, const Tensor& x, const Tensor& w, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d, bool tr, at::IntArrayRef op, int64_t g, std::array<bool, 3> mask) {
  same_device("convolution_backward", {go, x, w});
  std::vector<int64_t> bias{tr ? w.size(1) * g : w.size(0)};
  auto r = at::convolution_backward(to_host(go).contiguous(), to_host(x), to_host(w), at::IntArrayRef(bias), s, p, d, tr, op, g, mask);
  return {to_dev(std::get<0>(r)), to_dev(std::get<1>(r)), to_dev(std::get<2>(r))};
}

static void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  static const std::set<std::string> indexes{"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_", "aten::_copy_from"};
  const auto& name = op.schema().name();
  if (!indexes.count(name)) {
    auto args = torch::jit::last(*stack, op.schema().arguments().size());
    auto check = [&](const Tensor& t) {
      TORCH_CHECK(!t.defined() || t.device().type() == E || t.dim() == 0, "Expected all tensors to be on the same device, but found at least two devices, egpu:0 and ", t.device(), "! (", name, ")");
    };
    for (const auto& a : args) {
      if (a.isTensor()) check(a.toTensor());
      else if (a.isTensorList()) for (const Tensor& t : a.toTensorList()) check(t);
    }
  }
  at::native::cpu_fallback(op, stack);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &new_empty); m.impl("empty_strided", &new_empty_strided); m.impl("as_strided", &strided); m.impl("view", &new_view);
  m.impl("_reshape_alias", &reshape_alias); m.impl("_copy_from", &copy_from); m.impl("_copy_from_and_resize", &copy_from_and_resize); m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage); m.impl("set_.source_Storage", &set_source); m.impl("set_.source_Tensor", &set_tensor);
  m.impl("_local_scalar_dense", &local_scalar); m.impl("convolution_overrideable", &conv); m.impl("convolution_backward_overrideable", &conv_backward);
}
namespace at::autocast {
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(_convolution, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv3d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv_transpose3d, input, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(convolution, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
}
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("install", [] { at::RegisterPrivateUse1HooksInterface(new Hooks()); });
}
