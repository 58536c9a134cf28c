//! Kernels as pipelines.

use super::device::{Device, failed};
use crate::code::Code;
use crate::error::GpuError;
use ash::vk;
use std::ffi::CString;
use std::sync::Arc;

/// A kernel that is ready to be launched.
pub struct Pipeline {
    device: Arc<Device>,
    pub(super) set: vk::DescriptorSetLayout,
    pub(super) layout: vk::PipelineLayout,
    pub(super) pipeline: vk::Pipeline,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // SAFETY: no run uses it any more, and null handles are ignored.
        unsafe {
            let d = &self.device.device;
            d.destroy_pipeline(self.pipeline, None);
            d.destroy_pipeline_layout(self.layout, None);
            d.destroy_descriptor_set_layout(self.set, None);
        }
    }
}

impl Pipeline {
    /// # Errors
    /// If the driver does not take the kernel.
    pub fn new(device: &Arc<Device>, code: &Code) -> Result<Pipeline, GpuError> {
        let d = &device.device;
        let words: Vec<u32> = code.bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let name = CString::new(code.entry.as_str()).map_err(|_| GpuError::Lacks("names with a NUL".into()))?;
        let bindings: Vec<_> = (0..code.bindings.len() as u32)
            .map(|k| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(k)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let mut made = Pipeline {
            device: device.clone(),
            set: vk::DescriptorSetLayout::null(),
            layout: vk::PipelineLayout::null(),
            pipeline: vk::Pipeline::null(),
        };
        // SAFETY: the structures are valid for the calls; what was made belongs to `made` or is destroyed here.
        unsafe {
            let sets = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            made.set = d.create_descriptor_set_layout(&sets, None).map_err(failed("vkCreateDescriptorSetLayout"))?;
            let sets = [made.set];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            made.layout = d.create_pipeline_layout(&layout, None).map_err(failed("vkCreatePipelineLayout"))?;
            let module = vk::ShaderModuleCreateInfo::default().code(&words);
            let module = d.create_shader_module(&module, None).map_err(failed("vkCreateShaderModule"))?;
            let stage =
                vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module).name(&name);
            let create = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(made.layout)];
            let pipelines = d.create_compute_pipelines(device.cache, &create, None);
            d.destroy_shader_module(module, None);
            let pipelines = pipelines.map_err(|(_, e)| failed("vkCreateComputePipelines")(e))?;
            made.pipeline = pipelines.first().copied().unwrap_or_default();
        }
        Ok(made)
    }
}
