//! stub
pub async fn init_dev(_p: &std::path::Path) -> Result<String, super::ConfigError> { todo!() }
